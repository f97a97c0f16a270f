"""A shared mapping of a file, populated and locked in pieces, none of it with the GIL held; and the callback's own code.

Python's own mmap holds the GIL while the kernel clears gigabytes, and keeps every other thread of chaosd from storing.
"""

from cpython.buffer cimport PyBuffer_FillInfo
from libc.errno cimport errno
from libc.stdint cimport uint8_t, uintptr_t

cdef extern from "sys/mman.h" nogil:
    enum:
        PROT_READ
        PROT_WRITE
        MAP_SHARED
    void *MAP_FAILED
    void *c_mmap "mmap"(void *at, size_t n, int prot, int flags, int fd, long offset)
    int c_munmap "munmap"(void *at, size_t n)
    int c_mlock "mlock"(const void *at, size_t n)
    int c_madvise "madvise"(void *at, size_t n, int advice)

cdef extern from "unistd.h" nogil:
    int getpagesize()

cdef enum:
    PIECE = 4 << 20             # bytes: the kernel is asked for no more at once
    POPULATE_READ = 22          # MADV_POPULATE_READ and _WRITE, from Linux 5.14 on
    POPULATE_WRITE = 23


cdef size_t lock_most(uint8_t *at, size_t n) noexcept nogil:
    """Locks as many of the pages at `at` as the limit allows, from the first on. Returns their bytes."""
    cdef size_t page = getpagesize()
    cdef size_t done = 0, step
    if c_mlock(at, n) == 0:
        return n
    step = n // 2 // page * page
    while step >= page:
        while done + step <= n and c_mlock(at + done, step) == 0:
            done += step
        step = step // 2 // page * page
    return done


cdef void populate(uint8_t *at, size_t n) noexcept nogil:
    """Has each page of n bytes, 1 or more, there, writable without a fault; `at` need be no page's begin."""
    cdef volatile uint8_t *touched = at
    cdef size_t page = getpagesize()
    if c_madvise(at, n, POPULATE_WRITE) != 0:
        while touched < at + n:
            touched[0] = touched[0]
            touched += page
        touched = at + n - 1
        touched[0] = touched[0]


def hold_code(own, others):
    """Has the code and constants of loaded libraries there, so that none of it is a page fault when it first runs, or
    runs again after the kernel has taken its pages for others; locked, as far as the memlock limit allows.

    Args:
        own: what is locked: ends of their files' paths, as "/_rt.cpython-311.so".
        others: parts of the paths of those that are only brought in.

    Returns:
        The bytes that are locked.
    """
    cdef uint8_t *at
    cdef size_t n, locked = 0
    cdef bint is_own
    with open("/proc/self/maps") as maps:
        lines = [line.rstrip().split(maxsplit=5) for line in maps]
    for place, access, _, _, _, path in [each for each in lines if len(each) == 6]:
        is_own = path.endswith(tuple(own))
        if access[0] != "r" or not (is_own or any(each in path for each in others)):
            continue
        begin, end = (int(each, 16) for each in place.split("-"))
        at, n = <uint8_t *><uintptr_t>begin, end - begin
        with nogil:
            if is_own and c_mlock(at, n) == 0:
                locked += n
            else:
                c_madvise(at, n, POPULATE_READ)
    return locked


cdef class Mapping:
    """A writable, shared mapping of a whole file: a buffer, alive from construction to `close`.

    Args:
        fd: stays the caller's; the mapping keeps the open file.
        size: bytes; the file must have them, or touching the rest is a bus error.

    Raises:
        OSError: the kernel refused.
    """

    cdef uint8_t *at
    cdef size_t size
    cdef Py_ssize_t n_views
    cdef bint at_limit

    def __cinit__(self, int fd, size_t size):
        cdef void *at
        with nogil:
            at = c_mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)
        if at == MAP_FAILED:
            raise OSError(errno, "the file can't be mapped")
        self.at = <uint8_t *>at
        self.size = size

    def __len__(self):
        return self.size

    def __getbuffer__(self, Py_buffer *view, int flags):
        if self.at == NULL:
            raise ValueError("the mapping is closed")
        PyBuffer_FillInfo(view, self, self.at, self.size, 0, flags)
        self.n_views += 1

    def __releasebuffer__(self, Py_buffer *view):
        self.n_views -= 1

    @property
    def closed(self):
        return self.at == NULL

    def hold(self, size_t begin, size_t end):
        """Populates bytes [begin, end), from a page's begin on, and locks them as far as the memlock limit allows:
        once that is reached, nothing further on is locked. Nothing must be written there meanwhile.

        Returns:
            The bytes that are locked.
        """
        cdef size_t locked = 0, n, got
        if self.at == NULL:
            raise ValueError("the mapping is closed")
        end = min(end, self.size)
        self.n_views += 1       # nobody may close it meanwhile
        with nogil:
            while begin < end:
                n = min(end - begin, <size_t>PIECE)
                got = 0 if self.at_limit else lock_most(self.at + begin, n)
                if got < n:
                    self.at_limit = True
                    populate(self.at + begin + got, n - got)
                locked += got
                begin += n
        self.n_views -= 1
        return locked

    def close(self):
        """Unmaps. Calling it twice is harmless.

        Raises:
            BufferError: somebody still has a view of it.
        """
        cdef void *at = self.at
        if at == NULL:
            return
        if self.n_views:
            raise BufferError("the mapping is in use")
        self.at = NULL
        with nogil:
            c_munmap(at, self.size)

    def __dealloc__(self):
        if self.at != NULL:
            c_munmap(self.at, self.size)

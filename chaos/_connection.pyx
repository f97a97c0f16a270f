"""The connection to PipeWire: its loop, what callbacks put into a queue for Python, and one door for C's errors.

One connection serves the whole daemon. Whatever lives on it (captures, the registry listener) is closed before it.
"""

from libc.errno cimport EPIPE, errno
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdio cimport sscanf
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, strerror, strlen

from chaos.pipewire cimport *

import os
import warnings
from weakref import WeakSet

from chaos.terms.errors import PipeWireUnavailable

cdef extern from "unistd.h" nogil:
    ssize_t write(int fd, const void *data, size_t n)

cdef enum:
    RECORD_CORE_INFO = 1
    RECORD_CORE_ERROR = 2

CORE_INFO = RECORD_CORE_INFO
CORE_ERROR = RECORD_CORE_ERROR


# ---- one door for C's errors ---------------------------------------------------------------------------------------

FREE_DESCRIPTORS = 16       # twice what a connection was seen to open


def check_descriptors():
    """Raises unless a connection's descriptors can be had: PipeWire 1.6 ends the process where one is lacking."""
    held = []
    try:
        for _ in range(FREE_DESCRIPTORS):
            held.append(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC))
    except OSError as error:
        check(-error.errno, "making a connection")
    finally:
        for fd in held:
            os.close(fd)


cdef int check(int res, str doing) except -1:
    """Turns PipeWire's negative errno into an exception; gives anything else back."""
    if res >= 0:
        return res
    raise PipeWireUnavailable(
        f"PipeWire refused: {doing}: {strerror(-res).decode()}",
        hint="is PipeWire running, and may this user reach it?", details={"errno": -res},
    )


cdef int check_pointer(const void *p, str doing) except -1:
    return check(-(errno or 12) if p == NULL else 0, doing)


# ---- records from callbacks to Python ------------------------------------------------------------------------------

cdef void records_push(Records *q, int kind, uint32_t id, int64_t a, int64_t b, const char *text,
                       size_t n) noexcept nogil:
    """Appends a record. For callbacks of the loop's own thread, or with the loop locked; never for the RT thread."""
    cdef uint64_t one = 1
    cdef Record *r = <Record *>malloc(sizeof(Record) + n)
    if r == NULL:
        return
    r.next = NULL
    r.kind = kind
    r.id = id
    r.a = a
    r.b = b
    r.size = n
    r.payload = <char *>r + sizeof(Record)
    if n:
        memcpy(r.payload, text, n)
    if q.last == NULL:
        q.first = r
        write(q.wake_fd, &one, sizeof(one))
    else:
        q.last.next = r
    q.last = r


cdef void records_push_text(Records *q, int kind, uint32_t id, int64_t a, int64_t b, const char *text) noexcept nogil:
    records_push(q, kind, id, a, b, text, strlen(text) if text != NULL else 0)


cdef uint32_t version_code(const char *text) noexcept nogil:
    """A version as one number, 1.4.2 as 1004002, so that later ones are greater; 0 where it makes no sense."""
    cdef unsigned int major = 0, minor = 0, micro = 0
    if text == NULL or sscanf(text, b"%u.%u.%u", &major, &minor, &micro) < 2:
        return 0
    return major * 1000000 + minor * 1000 + micro


cdef void on_core_info(void *data, const pw_core_info *info) noexcept nogil:
    cdef Records *q = <Records *>data
    q.version = version_code(info.version)
    records_push_text(q, RECORD_CORE_INFO, info.id, info.cookie, 0, info.version)


cdef void on_core_done(void *data, uint32_t id, int seq) noexcept nogil:
    cdef Records *q = <Records *>data
    if id == PW_ID_CORE:
        q.done_seq = seq
        pw_thread_loop_signal(q.loop, False)


cdef bint is_before(int done, int seq) noexcept nogil:
    """Of what PipeWire counts in 30 bits. Threads that wait at once are answered in one go: the last may be ahead."""
    return (<uint32_t>(done - seq) & 0x3FFFFFFF) >= 0x20000000


cdef void on_core_error(void *data, uint32_t id, int seq, int res, const char *message) noexcept nogil:
    cdef Records *q = <Records *>data
    if id == PW_ID_CORE and res == -EPIPE:
        q.broken = True
    records_push_text(q, RECORD_CORE_ERROR, id, res, seq, message)
    pw_thread_loop_signal(q.loop, False)


cdef pw_core_events core_events
core_events.version = PW_VERSION_CORE_EVENTS
core_events.info = on_core_info
core_events.done = on_core_done
core_events.error = on_core_error


def library_version():
    """Version of the libpipewire that this process runs with, as text."""
    return pw_get_library_version().decode()


cdef class Connection:
    """A connection to PipeWire with its loop: alive from construction to `close`, which may be called twice.

    Args:
        remote: name of the PipeWire to reach; None for the session's own.

    Attributes:
        wake_fd: readable when `drain` has something to give.

    Raises:
        PipeWireUnavailable: nobody answers there.
    """

    def __cinit__(self, remote=None):
        self.remote = remote or ""
        self.children = WeakSet()
        cdef int wake_fd = -1
        check_descriptors()
        pw_init(NULL, NULL)
        try:
            wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        except OSError as error:
            check(-error.errno, "making an eventfd")
        self.records = <Records *>calloc(1, sizeof(Records))
        self.hook = <spa_hook *>calloc(1, sizeof(spa_hook))
        if self.records == NULL or self.hook == NULL:
            free(self.records)
            free(self.hook)
            self.records = NULL
            os.close(wake_fd)
            raise MemoryError
        self.records.wake_fd = wake_fd
        try:
            self.open()
        except BaseException:
            self.close()
            raise

    cdef int open(self) except -1:
        cdef bytes name = self.remote.encode()
        cdef pw_properties *props
        self.loop = pw_thread_loop_new(b"chaosd-pw", NULL)
        check_pointer(self.loop, "making a loop")
        self.records.loop = self.loop
        # Before 1.0 only client-rt.conf asks for a real-time data thread; from then on client.conf does.
        props = NULL
        if library_version().startswith("0."):
            props = pw_properties_new(b"config.name", <const char *>b"client-rt.conf", NULL)
        self.context = pw_context_new(pw_thread_loop_get_loop(self.loop), props, 0)
        check_pointer(self.context, "making a context")
        check(pw_thread_loop_start(self.loop), "starting the loop")
        pw_thread_loop_lock(self.loop)
        try:
            props = pw_properties_new(b"application.name", <const char *>b"chaosd", NULL)
            if name:
                pw_properties_set(props, b"remote.name", name)
            self.core = pw_context_connect(self.context, props, 0)
            check_pointer(self.core, "connecting")
            pw_core_add_listener(self.core, self.hook, &core_events, self.records)
        finally:
            pw_thread_loop_unlock(self.loop)
        self.sync()

    cdef int alive(self) except -1:
        """Raises unless the connection is alive."""
        if self.core == NULL:
            raise PipeWireUnavailable("the connection to PipeWire is closed", hint="make a new one")
        return 0

    @property
    def wake_fd(self):
        return self.records.wake_fd

    def sync(self, int timeout_s=5):
        """Waits until PipeWire has carried out all that was asked of it so far.

        Raises:
            PipeWireUnavailable: it has gone, or did not answer within `timeout_s`.
        """
        self.alive()
        cdef int seq, waited = 0
        with nogil:
            pw_thread_loop_lock(self.loop)
            seq = pw_core_sync(self.core, PW_ID_CORE, 0)
            while is_before(self.records.done_seq, seq) and waited == 0 and not self.records.broken:
                waited = pw_thread_loop_timed_wait(self.loop, timeout_s)
            pw_thread_loop_unlock(self.loop)
        if waited != 0:
            raise PipeWireUnavailable("PipeWire does not answer", hint="is its process stopped?")
        if self.records.broken:
            raise PipeWireUnavailable("PipeWire has gone", hint="start it again")

    def drain(self):
        """All records since the last call, in order: (kind, id, a, b, payload)."""
        cdef Record *r
        cdef Record *gone
        cdef list found = []
        if self.loop == NULL:
            return found
        # First the signal, then the queue: what comes between both is found now, and signals once more for nothing.
        try:
            os.eventfd_read(self.records.wake_fd)
        except BlockingIOError:
            pass
        with nogil:
            pw_thread_loop_lock(self.loop)
            r = self.records.first
            self.records.first = NULL
            self.records.last = NULL
            pw_thread_loop_unlock(self.loop)
        while r != NULL:
            found.append((r.kind, r.id, r.a, r.b, r.payload[:r.size]))
            gone = r
            r = r.next
            free(gone)
        return found

    def lock(self):
        """Keeps the loop's thread out until `unlock`; the same thread may lock again."""
        self.alive()
        with nogil:
            pw_thread_loop_lock(self.loop)

    def unlock(self):
        with nogil:
            pw_thread_loop_unlock(self.loop)

    def adopt(self, child):
        """Closes `child` before the connection closes."""
        self.children.add(child)

    def close(self):
        """Closes all that lives on the connection, then itself. Twice is harmless."""
        cdef Record *r
        for child in list(self.children):
            child.close()
        if self.loop != NULL:
            with nogil:
                pw_thread_loop_lock(self.loop)
                if self.core != NULL:
                    spa_hook_remove(self.hook)
                    pw_core_disconnect(self.core)
                    self.core = NULL
                pw_thread_loop_unlock(self.loop)
                pw_thread_loop_stop(self.loop)
                if self.context != NULL:
                    pw_context_destroy(self.context)
                    self.context = NULL
                pw_thread_loop_destroy(self.loop)
                self.loop = NULL
        if self.records != NULL:
            while self.records.first != NULL:
                r = self.records.first
                self.records.first = r.next
                free(r)
            os.close(self.records.wake_fd)
            free(self.records)
            free(self.hook)
            self.records = NULL
            self.hook = NULL

    def __del__(self):
        if self.records != NULL:
            try:
                warnings.warn(f"unclosed {type(self).__name__}", ResourceWarning, source=self)
            finally:
                self.close()

"""What a capture and a form need of the slots."""

from libc.stdint cimport uint32_t

from chaos._cycle cimport Writer

cdef class Slots:
    cdef Writer writer
    cdef Py_buffer _view
    cdef bint _alive
    cdef Writer *alive(self) except NULL
    cdef void free_slot(self, uint32_t slot) noexcept

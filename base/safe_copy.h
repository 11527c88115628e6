// Copies from memory that may vanish while it is copied.
#ifndef CAISSON_BASE_SAFE_COPY_H_
#define CAISSON_BASE_SAFE_COPY_H_

#include <cstddef>

namespace caisson {

// As memcpy(3), and stops before a byte that gives a SIGBUS: a page of `from` behind the end of its file, or
// one that could not be read. Returns how many bytes were copied. The process gets a handler of SIGBUS, by which
// any other SIGBUS has its default action; the thread must not block that signal, or the fault is the process's end.
size_t SafeCopy(void* to, const void* from, size_t n);

}  // namespace caisson

#endif  // CAISSON_BASE_SAFE_COPY_H_

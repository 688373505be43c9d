// cflags: -static-pie
#include "heap_shapes.c"

// cflags: -static -s
#include "heap_shapes.c"

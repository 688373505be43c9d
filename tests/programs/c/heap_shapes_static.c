// cflags: -static
#include "heap_shapes.c"

// cflags: -static-pie -s
#include "heap_shapes.c"

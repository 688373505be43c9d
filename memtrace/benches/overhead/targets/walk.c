// cflags: -O2 -fomit-frame-pointer
// The benchmark's target without frame pointers: only unwind tables lead out of it.
#include "../pairs.c"

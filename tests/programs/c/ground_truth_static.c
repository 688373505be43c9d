// cflags: -static
// The allocator in the executable itself.
#include "ground_truth.c"

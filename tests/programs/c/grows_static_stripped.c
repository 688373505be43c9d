// cflags: -pthread -static -s
// Nothing in it has a name.
#include "grows.c"

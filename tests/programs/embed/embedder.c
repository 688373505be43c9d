// A C program that has Python in it and is not named so: runs the Python program that it is given,
// with its arguments. Linked with one libpython after the other by its test, thus no headers.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern void Py_Initialize(void);
extern int PyRun_SimpleString(const char *source);
extern int Py_FinalizeEx(void);

static const char RUN[] =
    "import os, runpy, sys\n"
    "sys.argv = os.environ['EMBEDDED'].split('\\n')\n"
    "sys.path.insert(0, os.path.dirname(sys.argv[0]))\n"
    "runpy.run_path(sys.argv[0], run_name='__main__')\n";

int main(int argc, char **argv) {
    char arguments[8192] = "";
    for (int i = 1; i < argc; i++) {
        size_t used = strlen(arguments);
        snprintf(arguments + used, sizeof arguments - used, "%s%s", i > 1 ? "\n" : "", argv[i]);
    }
    setenv("EMBEDDED", arguments, 1);
    Py_Initialize();
    int failed = PyRun_SimpleString(RUN);
    return Py_FinalizeEx() || failed;
}

// What every test program shares: the conversation with the test, and counting.
//
// A program says `ready {...}` with its pid and the addresses of its allocator's functions, waits
// for a line, does what it is for, says what it did as one line of JSON, and waits for another
// line (or the end of its input) before it ends. Nothing here allocates memory, so that what a
// program counts is all there is to see.
#pragma once
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

// A frame of its own, which calls and is not jumped through: its name is in every stack.
#define SITE __attribute__((noinline, noclone))

// Makes the compiler believe that somebody else uses the value.
#define USED(value) __asm__ volatile("" : : "r"(value) : "memory")

typedef uint64_t u64;

static char program_output[1 << 16];
static size_t program_output_bytes;

// Appends to the line under construction.
__attribute__((format(printf, 1, 2), unused)) static void say(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    size_t room = sizeof program_output - program_output_bytes;
    int bytes = vsnprintf(program_output + program_output_bytes, room, format, arguments);
    va_end(arguments);
    if (bytes < 0 || (size_t)bytes >= room) abort();
    program_output_bytes += (size_t)bytes;
}

// Ends the line and sends it.
__attribute__((unused)) static void send_line(void) {
    say("\n");
    const char *rest = program_output;
    while (program_output_bytes > 0) {
        ssize_t written = write(1, rest, program_output_bytes);
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) _exit(3);
        rest += written;
        program_output_bytes -= (size_t)written;
    }
}

// Waits for a line; the end of the input ends the program.
__attribute__((unused)) static void wait_for_line(void) {
    for (char byte = 0; byte != '\n';) {
        ssize_t got = read(0, &byte, 1);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) _exit(0);
    }
}

// Says that the program is ready, and waits for the test to say go.
__attribute__((unused)) static void ready(void) {
    say("ready {\"pid\": %d, \"malloc\": %lu, \"free\": %lu, \"realloc\": %lu}", (int)getpid(),
        (unsigned long)&malloc, (unsigned long)&free, (unsigned long)&realloc);
    send_line();
    wait_for_line();
}

__attribute__((unused)) static void sleep_ms(long ms) {
    struct timespec left = {ms / 1000, ms % 1000 * 1000000};
    while (nanosleep(&left, &left) != 0 && errno == EINTR) {}
}

__attribute__((unused)) static u64 now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (u64)now.tv_sec * 1000000000u + (u64)now.tv_nsec;
}

// A counter that threads share.
__attribute__((unused)) static u64 count(u64 *counter, u64 by) {
    return __atomic_add_fetch(counter, by, __ATOMIC_RELAXED);
}

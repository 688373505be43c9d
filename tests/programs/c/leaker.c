// A small server with a leak, for demonstrations: about 1 MB/s is never freed, all of it from one
// line (the session of every request that is not logged out), while other code allocates and
// frees far more. Runs until it is killed, or for `leaker SECONDS`.
#include "program.h"

#define REQUESTS_PER_SECOND 250
#define SESSION_BYTES 4096

struct session {
    struct session *next;
    char data[SESSION_BYTES - sizeof(struct session *)];
};

static struct session *sessions;

SITE static struct session *leak_session(void) {
    struct session *session = malloc(sizeof *session); // the leak
    memset(session->data, 1, sizeof session->data);
    return session;
}

SITE static void remember_session(void) {
    struct session *session = leak_session();
    session->next = sessions;
    sessions = session;
}

SITE static char *parse_request(size_t size) {
    char *parsed = calloc(1, size);
    USED(parsed);
    return parsed;
}

SITE static char *render_page(char *draft, size_t size) {
    char *page = realloc(draft, size);
    memset(page, 2, size);
    return page;
}

SITE static void leak_request(size_t number) {
    char *parsed = parse_request(128 + number % 512);
    char *page = render_page(NULL, 1024);
    page = render_page(page, 8192 + number % 8192);
    remember_session();
    free(page);
    free(parsed);
}

SITE static void handle_request(size_t number) {
    leak_request(number);
    for (size_t i = 0; i < 20; i++) free(parse_request(64 + 16 * i));
}

int main(int argc, char **argv) {
    u64 until_ns = argc > 1 ? now_ns() + (u64)(atof(argv[1]) * 1e9) : UINT64_MAX;
    say("leaker: pid %d leaks about 1 MB/s in leak_session()", (int)getpid());
    send_line();
    for (size_t number = 0; now_ns() < until_ns; number++) {
        handle_request(number);
        sleep_ms(1000 / REQUESTS_PER_SECOND);
    }
    return 0;
}

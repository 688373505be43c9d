// A small server with a leak, for demonstrations. One line leaks about 1 MB/s: the session of every
// request, which nobody ends. All else is innocent: a page cache that replaces its oldest page, a
// log that keeps its last lines, and requests that allocate and free far more than the leak does.
// Runs until it is killed, or for `leaker SECONDS`.
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

SITE static void log_in(void) {
    struct session *session = leak_session();
    session->next = sessions;
    sessions = session; // nobody logs out
}

#define CACHED_PAGES 64
#define REQUESTS_PER_PAGE 8
#define PAGE_BYTES 16000

static char *page_cache[CACHED_PAGES];

SITE static char *load_page(size_t number) {
    char *page = malloc(PAGE_BYTES + number % 512);
    memset(page, 2, PAGE_BYTES);
    return page;
}

// Every eighth request asks for a page that is not there; it takes the place of the oldest.
SITE static const char *find_page(size_t number) {
    size_t page = number / REQUESTS_PER_PAGE;
    char **slot = &page_cache[page % CACHED_PAGES];
    if (number % REQUESTS_PER_PAGE == 0) {
        free(*slot);
        *slot = load_page(page);
    }
    return *slot;
}

#define LOG_LINES 256

static char *log_lines[LOG_LINES];

SITE static void write_log(size_t number) {
    char **line = &log_lines[number % LOG_LINES];
    free(*line);
    *line = malloc(80 + number % 60);
    USED(*line);
}

SITE static char *parse_request(size_t size) {
    char *parsed = calloc(1, size);
    USED(parsed);
    return parsed;
}

SITE static char *render_answer(const char *page, size_t size) {
    char *answer = realloc(NULL, 1024);
    answer = realloc(answer, size);
    memcpy(answer, page, size);
    return answer;
}

SITE static void handle_request(size_t number) {
    for (size_t i = 0; i < 20; i++) free(parse_request(64 + 16 * i));
    log_in();
    const char *page = find_page(number);
    char *answer = render_answer(page, 8192 + number % 4096);
    free(answer);
    write_log(number);
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

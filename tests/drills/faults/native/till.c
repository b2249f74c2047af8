/* The drill's till: like tests/sample_till/till.py, but native, so that it starts in two milliseconds.

   Its bundle has `release.txt` beside it: "VERSION SCHEMA BEHAVIOUR", where BEHAVIOUR is one of
     good           checks itself, confirms, sells, ends
     crash          ends with a signal at start          exit3   ends with 3 at start
     machine_down   takes the whole machine down at start (the harness hears the bell and ends every process)
     hang           starts and does nothing, for ever
   What customers hold is written to DRILL_RECEIPTS, outside the till's disk, after each sale was committed.

   SQLite is found at run time: the library that Python itself uses, so no header has to be installed. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <libgen.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

enum { SQLITE_OK = 0, SQLITE_ROW = 100, OPEN_READWRITE = 2 };
enum { NO_RELEASE = 77, NO_SQLITE = 78, NO_DATABASE = 7, WRONG_SCHEMA = 9, CANNOT_CONFIRM = 6, NO_ANSWER = 8, NO_SALE = 5, NO_RECEIPT = 4 };
enum { ANSWER_POLLS = 6000, POLL_MICROSECONDS = 5000 };

static int (*open_database)(const char *, void **, int, const char *);
static int (*run)(void *, const char *, void *, void *, char **);
static int (*prepare)(void *, const char *, int, void **, const char **);
static int (*step)(void *);
static long long (*column)(void *, int);
static int (*finalize)(void *);
static int (*timeout)(void *, int);
static int (*close_database)(void *);
static void *database;

static int find_sqlite(void) {
    void *library = dlopen(SQLITE_LIBRARY, RTLD_NOW);
    if (!library) return 0;
#define FIND(name, symbol) if (!(*(void **)&name = dlsym(library, symbol))) return 0
    FIND(open_database, "sqlite3_open_v2");
    FIND(run, "sqlite3_exec");
    FIND(prepare, "sqlite3_prepare_v2");
    FIND(step, "sqlite3_step");
    FIND(column, "sqlite3_column_int64");
    FIND(finalize, "sqlite3_finalize");
    FIND(timeout, "sqlite3_busy_timeout");
    FIND(close_database, "sqlite3_close");
    return 1;
}

static long number(const char *query) {
    void *statement;
    long value = -1;
    if (prepare(database, query, -1, &statement, NULL) != SQLITE_OK) return -1;
    if (step(statement) == SQLITE_ROW) value = column(statement, 0);
    finalize(statement);
    return value;
}

static int execute(const char *sql) {
    char *error = NULL;
    int status = run(database, sql, NULL, NULL, &error);
    if (status != SQLITE_OK) fprintf(stderr, "%s: %s\n", sql, error ? error : "");
    return status;
}

static void take_machine_down(void) {
    const char *path = getenv("DRILL_BELL");
    int bell = path ? open(path, O_WRONLY | O_NONBLOCK) : -1;
    if (bell >= 0 && write(bell, "x", 1) == 1) for (;;) pause();
}

/* Says "I work" and waits for the answer before anything is sold. Returns 0, or the status to end with + 1. */
static int confirm(void) {
    const char *file = getenv("TILLKEEPER_CONFIRM_FILE"), *trial = getenv("TILLKEEPER_TRIAL_ID");
    if (!file || !trial || !*file || !*trial) return 0;
    char temporary[1200], path[1200], answer[64];
    snprintf(temporary, sizeof temporary, "%s.new", file);
    snprintf(path, sizeof path, "%s.ack", file);
    int descriptor = open(temporary, O_CREAT | O_WRONLY | O_TRUNC, 0644);
    if (descriptor < 0 || write(descriptor, trial, strlen(trial)) != (ssize_t)strlen(trial)) return CANNOT_CONFIRM + 1;
    close(descriptor);
    if (rename(temporary, file)) return CANNOT_CONFIRM + 1;
    for (int poll = 0; poll < ANSWER_POLLS; poll++) {
        descriptor = open(path, O_RDONLY);
        if (descriptor >= 0) {
            ssize_t length = read(descriptor, answer, sizeof answer - 1);
            close(descriptor);
            if (length > 0) {
                answer[length] = 0;
                return strncmp(answer, "given up", 8) ? 0 : 1;
            }
        }
        usleep(POLL_MICROSECONDS);
    }
    return NO_ANSWER + 1;
}

static int sell(long products_count) {
    unsigned long chance;
    char sql[600];
    if (getrandom(&chance, sizeof chance, 0) != sizeof chance) return NO_SALE;
    unsigned long receipt = chance & 0xffffffffffffUL;
    long cents = 100 + chance % 5000, product = (chance >> 50) % products_count;
    if (execute("BEGIN IMMEDIATE")) return NO_SALE;
    snprintf(sql, sizeof sql,
             "INSERT INTO transactions (receiptNumber, totalCents, paidWith, createdAt)"
             " VALUES ('R%012lx', %ld, 'cash', '2026-11-28T10:00:00Z')", receipt, cents);
    if (execute(sql)) return NO_SALE;
    snprintf(sql, sizeof sql,
             "INSERT INTO transaction_items (transactionId, productId, quantity, lineCents)"
             " VALUES (last_insert_rowid(), 'p%ld', 1, %ld)", product, cents);
    if (execute(sql) || execute("COMMIT")) return NO_SALE;
    const char *path = getenv("DRILL_RECEIPTS");
    int receipts = path ? open(path, O_CREAT | O_WRONLY | O_APPEND, 0644) : -1;
    int length = snprintf(sql, sizeof sql, "R%012lx %ld p%ld\n", receipt, cents, product);
    if (receipts < 0 || write(receipts, sql, length) != length) return NO_RECEIPT;
    return close(receipts) ? NO_RECEIPT : 0;
}

int main(int count, char **arguments) {
    char folder[1024], path[1200], version[64], behaviour[64];
    int schema, sales_count = 0;
    ssize_t length = readlink("/proc/self/exe", folder, sizeof folder - 1);
    folder[length > 0 ? length : 0] = 0;
    snprintf(path, sizeof path, "%s/release.txt", dirname(folder));
    FILE *release = fopen(path, "r");
    if (!release || fscanf(release, "%63s %d %63s", version, &schema, behaviour) != 3) return NO_RELEASE;
    fclose(release);
    for (int index = 1; index < count; index++) {
        if (!strcmp(arguments[index], "--self-test")) return 0;
        if (!strcmp(arguments[index], "--sell") && index + 1 < count) sales_count = atoi(arguments[++index]);
    }
    if (!strcmp(behaviour, "crash")) raise(SIGKILL); /* leaves no core file */
    if (!strcmp(behaviour, "exit3")) return 3;
    if (!strcmp(behaviour, "machine_down")) take_machine_down();
    if (!strcmp(behaviour, "hang")) for (;;) pause();
    if (!find_sqlite()) return NO_SQLITE;
    if (open_database(getenv("TILLKEEPER_DATABASE"), &database, OPEN_READWRITE, NULL) != SQLITE_OK) return NO_DATABASE;
    timeout(database, 5000);
    long found = number("PRAGMA user_version");
    if (found != schema) {
        fprintf(stderr, "this program knows schema %d, the database has %ld\n", schema, found);
        return WRONG_SCHEMA;
    }
    long products_count = number("SELECT count(*) FROM products");
    if (products_count <= 0) return WRONG_SCHEMA;
    int refused = confirm();
    if (refused) return refused - 1;
    if (getenv("TILLKEEPER_NOTICE")) printf("notice: %s\n", getenv("TILLKEEPER_NOTICE"));
    printf("till %s is open\n", version);
    fflush(stdout);
    execute("PRAGMA foreign_keys=ON");
    execute("PRAGMA synchronous=EXTRA");
    for (int sale = 0; sale < sales_count; sale++) {
        int status = sell(products_count);
        if (status) return status;
    }
    close_database(database);
    return 0;
}

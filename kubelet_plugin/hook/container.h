/* What both programs that put limits on a container do first: read the OCI state, and find the container's own cgroup.
 *
 * Purpose, flow: see dragoman_hook.c. One header and no library, so that each program is one file to compile.
 *
 * Limits: all that is read is bounded, in size and, from `start` on, in time. Nothing here allocates.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
    MAX_STATE = 1 << 20, /* the state carries annotations, which others write */
    MAX_FILE = 64 << 10,
    MAX_DEPTH = 64,
    SECONDS = 10,
};

static char state[MAX_STATE + 1];

/* ---- refusing ---------------------------------------------------------------------------------------------- */

__attribute__((noreturn, format(printf, 1, 2))) static void fail(const char *format, ...)
{
    char text[1024] = "dragoman: ";
    size_t length = strlen(text);
    va_list arguments;
    va_start(arguments, format);
    int wanted = vsnprintf(text + length, sizeof text - length - 1, format, arguments);
    va_end(arguments);
    if (wanted > 0)
        length = strlen(text);
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)text[i] < ' ' || text[i] == 0x7f)
            text[i] = '?'; /* the sentence ends in a pod's event: nothing in it may pretend to be a second one */
    text[length++] = '\n';
    ssize_t written = write(STDERR_FILENO, text, length);
    (void)written;
    _exit(1);
}

static void too_slow(int number)
{
    static const char text[] = "dragoman: the memory limit was not in place within 10 s.\n";
    (void)number;
    ssize_t written = write(STDERR_FILENO, text, sizeof text - 1);
    (void)written;
    _exit(1);
}

/* ---- reading ----------------------------------------------------------------------------------------------- */

static ssize_t read_all(int fd, char *into, size_t most)
{
    size_t length = 0;
    for (;;) {
        if (length > most) {
            errno = EFBIG;
            return -1;
        }
        /* `into` has a byte more than `most`: by that byte a longer file is told from one that just fits. */
        ssize_t got = read(fd, into + length, most + 1 - length);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -1;
        if (got == 0)
            break;
        length += (size_t)got;
    }
    if (length > most) {
        errno = EFBIG;
        return -1;
    }
    into[length] = '\0';
    return (ssize_t)length;
}

static ssize_t read_file(int folder, const char *name, char *into, size_t most)
{
    int fd = openat(folder, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return -1;
    ssize_t length = read_all(fd, into, most);
    int failed = errno;
    close(fd);
    errno = failed;
    return length;
}

__attribute__((unused)) static int write_file(int folder, const char *name, const char *text)
{
    int fd = openat(folder, name, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return -1;
    size_t length = strlen(text);
    ssize_t written = write(fd, text, length); /* one call: the kernel takes a line whole or not at all */
    int failed = written < 0 ? errno : (size_t)written == length ? 0 : EIO;
    if (close(fd) < 0 && failed == 0)
        failed = errno;
    errno = failed;
    return failed == 0 ? 0 : -1;
}

/* Digits only: no sign, space, unit or leading zero, and no number that does not fit. */
static bool whole_number(const char *text, size_t length, uint64_t *number)
{
    if (length == 0 || (text[0] == '0' && length > 1))
        return false;
    uint64_t found = 0;
    for (size_t i = 0; i < length; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        uint64_t digit = (uint64_t)(text[i] - '0');
        if (found > (UINT64_MAX - digit) / 10)
            return false;
        found = found * 10 + digit;
    }
    *number = found;
    return true;
}

/* ---- the OCI state ----------------------------------------------------------------------------------------- */

struct text {
    const char *at, *end;
};

static void skip_space(struct text *t)
{
    while (t->at < t->end && (*t->at == ' ' || *t->at == '\t' || *t->at == '\n' || *t->at == '\r'))
        t->at++;
}

static bool take(struct text *t, char wanted)
{
    skip_space(t);
    if (t->at >= t->end || *t->at != wanted)
        return false;
    t->at++;
    return true;
}

/* A string, without its quotes and as it stands: escapes are skipped, not resolved. */
static bool take_string(struct text *t, struct text *found)
{
    if (!take(t, '"'))
        return false;
    found->at = t->at;
    for (; t->at < t->end; t->at++) {
        if ((unsigned char)*t->at < ' ')
            return false;
        if (*t->at == '"') {
            found->end = t->at++;
            return true;
        }
        if (*t->at == '\\' && ++t->at >= t->end)
            return false;
    }
    return false;
}

/* A number, true, false or null: what it says matters for pid alone. */
static bool take_word(struct text *t, struct text *found)
{
    skip_space(t);
    found->at = t->at;
    while (t->at < t->end && *t->at > ' ' && *t->at < 0x7f && !strchr(",:]}[{\"", *t->at))
        t->at++;
    found->end = t->at;
    return found->end > found->at;
}

static bool skip_value(struct text *t, int depth)
{
    struct text ignored;
    skip_space(t);
    if (t->at >= t->end || depth > MAX_DEPTH)
        return false;
    bool object = *t->at == '{';
    if (*t->at == '"')
        return take_string(t, &ignored);
    if (!object && *t->at != '[')
        return take_word(t, &ignored);
    char closing = object ? '}' : ']';
    t->at++;
    if (take(t, closing))
        return true;
    do {
        if (object && !(take_string(t, &ignored) && take(t, ':')))
            return false;
        if (!skip_value(t, depth + 1))
            return false;
    } while (take(t, ','));
    return take(t, closing);
}

static bool is(const struct text *t, const char *word)
{
    size_t length = strlen(word);
    return (size_t)(t->end - t->at) == length && memcmp(t->at, word, length) == 0;
}

/* The process that waits for its entrypoint. */
static uint64_t pid_of_state(void)
{
    ssize_t length = read_all(STDIN_FILENO, state, sizeof state - 1);
    if (length < 0)
        fail("the runtime's state of the container cannot be read: %s.", strerror(errno));
    struct text t = {state, state + length}, key, value, status = {0, 0};
    uint64_t pid = 0;
    bool whole = take(&t, '{');
    bool more = whole;
    while (more) {
        whole = take_string(&t, &key) && take(&t, ':');
        if (whole && is(&key, "pid"))
            whole = pid == 0 && take_word(&t, &value) &&
                    whole_number(value.at, (size_t)(value.end - value.at), &pid) && pid > 0 && pid <= INT_MAX;
        else if (whole && is(&key, "status"))
            whole = status.at == NULL && take_string(&t, &status);
        else if (whole)
            whole = skip_value(&t, 1);
        more = whole && take(&t, ',');
    }
    whole = whole && take(&t, '}');
    skip_space(&t);
    if (!whole || t.at != t.end)
        fail("the runtime's state of the container is not what the OCI specification says.");
    if (pid == 0 || status.at == NULL)
        fail("the runtime's state of the container names no process or no status.");
    /* runc says creating, others created; in any later state the workload may have taken memory already. runc says
     * created at poststart as well, so this does not tell a hook that was put at that stage. */
    if (!is(&status, "creating") && !is(&status, "created"))
        fail("the container is not being created: a limit is put on before it starts.");
    return pid;
}

/* ---- the container's cgroup -------------------------------------------------------------------------------- */

/* Path of a process in the tree of cgroup v2, as /proc says. */
static void path_in_tree(const char *proc, const char *process, char *path, size_t size)
{
    static char lines[MAX_FILE + 1];
    char name[PATH_MAX];
    if (snprintf(name, sizeof name, "%s/%s/cgroup", proc, process) >= (int)sizeof name)
        fail("the path of procfs is too long.");
    if (read_file(AT_FDCWD, name, lines, sizeof lines - 1) < 0)
        fail("%s cannot be read: %s.", name, strerror(errno));
    for (char *line = lines; *line;) {
        char *end = strchrnul(line, '\n');
        if (strncmp(line, "0::/", 4) == 0) {
            size_t length = (size_t)(end - (line + 3));
            if (length >= size)
                fail("the path of the container's cgroup is too long.");
            memcpy(path, line + 3, length);
            path[length] = '\0';
            return;
        }
        line = *end ? end + 1 : end;
    }
    fail("process %s has no cgroup v2; limits on a card's memory need a node with cgroup v2.", process);
}

static bool has_part(const char *path, const char *part)
{
    size_t length = strlen(part);
    for (const char *at = path; (at = strstr(at, part)); at++)
        if (at > path && at[-1] == '/' && (at[length] == '/' || at[length] == '\0'))
            return true;
    return false;
}

/* The container's own leaf: nothing that the runtime, or the whole node, is in as well. */
static void find_leaf(const char *proc, uint64_t pid, char *leaf, size_t size)
{
    char process[24], own[PATH_MAX];
    snprintf(process, sizeof process, "%llu", (unsigned long long)pid);
    path_in_tree(proc, process, leaf, size);
    if (strcmp(leaf, "/") == 0 || has_part(leaf, "..") || has_part(leaf, "."))
        fail("the container's cgroup %s is not one of its own in the runtime's view.", leaf);
    path_in_tree(proc, "self", own, sizeof own);
    size_t length = strlen(leaf);
    if (strncmp(own, leaf, length) == 0 && (own[length] == '\0' || own[length] == '/'))
        fail("the container has no cgroup of its own: the runtime is in %s as well.", leaf);
}

/* ---- arguments --------------------------------------------------------------------------------------------- */

static const char *argument(const char *given, const char *name)
{
    size_t length = strlen(name);
    return strncmp(given, name, length) == 0 ? given + length : NULL;
}

static bool absolute(const char *path)
{
    return path && path[0] == '/' && strlen(path) < PATH_MAX / 2;
}

static bool printable(const char *name, size_t most)
{
    if (!name || !*name || strlen(name) > most)
        return false;
    for (; *name; name++)
        if (*name <= ' ' || *name >= 0x7f)
            return false;
    return true;
}

static uint64_t amount(const char *bytes)
{
    uint64_t found = 0;
    if (!bytes || !whole_number(bytes, strlen(bytes), &found) || found == 0 || found > INT64_MAX)
        fail("--bytes is a number from 1 on: a limit of nothing would be none.");
    return found;
}

/* From here on a hook has 10 seconds. */
static void start(void)
{
    struct sigaction slow = {.sa_handler = too_slow};
    sigaction(SIGALRM, &slow, NULL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_IGN);
    alarm(SECONDS);
}

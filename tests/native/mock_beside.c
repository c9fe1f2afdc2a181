/*
 * Linked into a mock library: where nobody says which file scripts it, that is the file beside the library with
 * `.txt` behind its name. So a node can have the library and its script without anybody's environment.
 *
 * MOCK_VARIABLE: the environment variable that names the script.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

__attribute__((constructor)) static void beside(void)
{
    static const char here;
    Dl_info found;
    char path[4096];
    if (!dladdr(&here, &found) || !found.dli_fname)
        return;
    if ((size_t)snprintf(path, sizeof(path), "%s.txt", found.dli_fname) < sizeof(path))
        setenv(MOCK_VARIABLE, path, 0);
}

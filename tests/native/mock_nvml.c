/*
 * libnvidia-ml.so.1 for tests, scripted by the file that MOCK_NVML_FILE names and read anew at each call.
 *
 * Lines of the file (fields are separated by tabs):
 *
 *   init     <code>         what nvmlInit answers; 9 = the driver is not loaded (yet)
 *   driver   <version>
 *   card     uuid=GPU-...  name=NVIDIA A100  memory=<MiB>  pci=00000000:3B:00.0  minor=0  arch=7  mig=-1  lost=0
 *   xid      <index of the card>  <code>
 *   dbe      <index of the card>  <count>
 *
 * `mig` is -1 (the card has no MIG), 0 (off) or 1 (on); `lost=1` makes every question about the card fail with
 * 15 (GPU is lost), `error=<code>` with any other. Each xid and dbe line is delivered once to each event set that was
 * made before the line was written. `remap` is 1 (a row waits to be remapped), 2 (it could not be) or -1 (the card
 * remaps no rows); `retired=1` says that a page waits to be retired; `recovery` is the action that the driver asks
 * for, -1 where it does not tell.
 *
 * With -DOLD_DRIVER the functions that came with newer drivers are left out.
 *
 * Source of the signatures, codes and sizes: NVML's API reference. Limits: no MIG instances, no clocks, no fabric.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define EXPORT __attribute__((visibility("default")))
#define CARDS 16
#define EVENTS 64

enum {
    SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7, DRIVER_NOT_LOADED = 9, TIMEOUT = 10, GPU_IS_LOST = 15, UNKNOWN = 999,
};

struct card {
    char uuid[96], name[96], pci[32];
    unsigned long long memory;
    unsigned int minor, arch;
    int mig, error, remap, retired, recovery;
};

struct world {
    int init;
    char driver[80];
    unsigned int count, xids;
    struct card cards[CARDS];
    unsigned int xid_card[EVENTS];
    unsigned long long xid_code[EVENTS], xid_type[EVENTS];
};

struct pci_info {
    char legacy[16];
    unsigned int domain, bus, device, pci_device, pci_subsystem;
    char bus_id[32];
};

struct memory { unsigned long long total, free, used; };
struct memory_v2 { unsigned int version; unsigned long long total, reserved, free, used; };
struct utilization { unsigned int gpu, memory; };
struct event { void *device; unsigned long long type, data; unsigned int instance, compute; };
struct field_value {
    unsigned int field, scope;
    long long timestamp, latency_us;
    unsigned int type;
    int code;
    union { double real; unsigned int number; unsigned long long large; } value;
};
struct event_set { unsigned int seen; unsigned int cards; };

static int initialised;
/* Of each thread its own: an agent waits for events in one and asks in others. */
static __thread struct world world;

static void field(struct card *card, const char *key, const char *value)
{
    if (!strcmp(key, "uuid")) snprintf(card->uuid, sizeof(card->uuid), "%s", value);
    else if (!strcmp(key, "name")) snprintf(card->name, sizeof(card->name), "%s", value);
    else if (!strcmp(key, "pci")) snprintf(card->pci, sizeof(card->pci), "%s", value);
    else if (!strcmp(key, "memory")) card->memory = strtoull(value, NULL, 10) << 20;
    else if (!strcmp(key, "minor")) card->minor = (unsigned int)atoi(value);
    else if (!strcmp(key, "arch")) card->arch = (unsigned int)atoi(value);
    else if (!strcmp(key, "mig")) card->mig = atoi(value);
    else if (!strcmp(key, "lost")) card->error = atoi(value) ? GPU_IS_LOST : 0;
    else if (!strcmp(key, "remap")) card->remap = atoi(value);
    else if (!strcmp(key, "retired")) card->retired = atoi(value);
    else if (!strcmp(key, "recovery")) card->recovery = atoi(value);
    else if (!strcmp(key, "error")) card->error = atoi(value);
    else { fprintf(stderr, "mock nvml: a card has no %s\n", key); abort(); }
}

static int read_world(void)
{
    const char *path = getenv("MOCK_NVML_FILE");
    FILE *file = path ? fopen(path, "r") : NULL;
    char line[1024], *rest;
    if (!file)
        return UNKNOWN;
    memset(&world, 0, sizeof(world));
    snprintf(world.driver, sizeof(world.driver), "550.54.15");
    while (fgets(line, sizeof(line), file)) {
        line[strcspn(line, "\n")] = '\0';
        char *kind = strtok_r(line, "\t", &rest), *part;
        if (!kind)
            continue;
        if (!strcmp(kind, "init")) {
            world.init = atoi(strtok_r(NULL, "\t", &rest));
        } else if (!strcmp(kind, "driver")) {
            snprintf(world.driver, sizeof(world.driver), "%s", strtok_r(NULL, "\t", &rest));
        } else if (!strcmp(kind, "card") && world.count < CARDS) {
            struct card *card = &world.cards[world.count++];
            card->mig = card->recovery = -1;
            while ((part = strtok_r(NULL, "\t", &rest))) {
                char *value = strchr(part, '=');
                if (!value) { fprintf(stderr, "mock nvml: %s has no =\n", part); abort(); }
                *value = '\0';
                field(card, part, value + 1);
            }
        } else if ((!strcmp(kind, "xid") || !strcmp(kind, "dbe")) && world.xids < EVENTS) {
            world.xid_type[world.xids] = kind[0] == 'x' ? 8 : 2;
            world.xid_card[world.xids] = (unsigned int)atoi(strtok_r(NULL, "\t", &rest));
            world.xid_code[world.xids++] = strtoull(strtok_r(NULL, "\t", &rest), NULL, 10);
        } else {
            fprintf(stderr, "mock nvml: %s is not understood\n", kind);
            abort();
        }
    }
    fclose(file);
    return SUCCESS;
}

/* Handles are numbers from 1 on, kept in a pointer as the real ones are opaque. */
static void *handle(unsigned int index) { return (void *)(uintptr_t)(index + 1); }

static int look(void *device, struct card **card)
{
    if (!initialised)
        return UNINITIALIZED;
    int code = read_world();
    if (code != SUCCESS)
        return code;
    unsigned int index = (unsigned int)((uintptr_t)device - 1);
    if (!device || index >= world.count)
        return INVALID_ARGUMENT;
    *card = &world.cards[index];
    return (*card)->error;
}

static int copy(char *out, unsigned int size, const char *text)
{
    if (strlen(text) >= size)
        return INSUFFICIENT_SIZE;
    strcpy(out, text);
    return SUCCESS;
}

EXPORT int nvmlInitWithFlags(unsigned int flags)
{
    (void)flags;
    int code = read_world();
    if (code == SUCCESS)
        code = world.init;
    initialised += code == SUCCESS;
    return code;
}

EXPORT int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }

EXPORT int nvmlShutdown(void)
{
    if (!initialised)
        return UNINITIALIZED;
    initialised--;
    return SUCCESS;
}

EXPORT const char *nvmlErrorString(int code)
{
    switch (code) {
    case SUCCESS: return "The operation was successful";
    case UNINITIALIZED: return "NVML was not first initialized with nvmlInit()";
    case NOT_SUPPORTED: return "The requested operation is not available on target device";
    case NOT_FOUND: return "A query to find an object was unsuccessful";
    case DRIVER_NOT_LOADED: return "NVIDIA driver is not loaded";
    case TIMEOUT: return "The operation timed out";
    case GPU_IS_LOST: return "The GPU has fallen off the bus or has otherwise become inaccessible";
    default: return "An internal driver error occurred";
    }
}

EXPORT int nvmlSystemGetDriverVersion(char *version, unsigned int length)
{
    if (!initialised)
        return UNINITIALIZED;
    int code = read_world();
    return code ? code : copy(version, length, world.driver);
}

EXPORT int nvmlSystemGetNVMLVersion(char *version, unsigned int length)
{
    return copy(version, length, "12.550.54.15");
}

EXPORT int nvmlSystemGetCudaDriverVersion_v2(int *version)
{
    *version = 12040;
    return SUCCESS;
}

EXPORT int nvmlDeviceGetCount_v2(unsigned int *count)
{
    if (!initialised)
        return UNINITIALIZED;
    int code = read_world();
    if (code == SUCCESS)
        *count = world.count;
    return code;
}

EXPORT int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **device)
{
    struct card *card;
    int code = look(handle(index), &card);
    if (code == SUCCESS)
        *device = handle(index);
    return code;
}

static int find(int (*same)(const struct card *, const char *), const char *wanted, void **device)
{
    if (!initialised)
        return UNINITIALIZED;
    int code = read_world();
    for (unsigned int i = 0; code == SUCCESS && i < world.count; i++) {
        if (!same(&world.cards[i], wanted))
            continue;
        *device = handle(i);
        return world.cards[i].error;
    }
    return code ? code : NOT_FOUND;
}

static int same_uuid(const struct card *card, const char *uuid) { return !strcmp(card->uuid, uuid); }
static int same_pci(const struct card *card, const char *pci) { return !strcmp(card->pci, pci); }

EXPORT int nvmlDeviceGetHandleByUUID(const char *uuid, void **device) { return find(same_uuid, uuid, device); }
EXPORT int nvmlDeviceGetHandleByPciBusId_v2(const char *pci, void **device) { return find(same_pci, pci, device); }

EXPORT int nvmlDeviceGetIndex(void *device, unsigned int *index)
{
    struct card *card;
    int code = look(device, &card);
    if (code == SUCCESS)
        *index = (unsigned int)(card - world.cards);
    return code;
}

EXPORT int nvmlDeviceGetUUID(void *device, char *uuid, unsigned int length)
{
    struct card *card;
    int code = look(device, &card);
    return code ? code : copy(uuid, length, card->uuid);
}

EXPORT int nvmlDeviceGetName(void *device, char *name, unsigned int length)
{
    struct card *card;
    int code = look(device, &card);
    return code ? code : copy(name, length, card->name);
}

EXPORT int nvmlDeviceGetMinorNumber(void *device, unsigned int *minor)
{
    struct card *card;
    int code = look(device, &card);
    if (code == SUCCESS)
        *minor = card->minor;
    return code;
}

EXPORT int nvmlDeviceGetMemoryInfo(void *device, struct memory *memory)
{
    struct card *card;
    int code = look(device, &card);
    if (code == SUCCESS)
        *memory = (struct memory){card->memory, card->memory, 0};
    return code;
}

EXPORT int nvmlDeviceGetMemoryInfo_v2(void *device, struct memory_v2 *memory)
{
    struct card *card;
    int code = look(device, &card);
    if (code == SUCCESS)
        *memory = (struct memory_v2){memory->version, card->memory, 0, card->memory, 0};
    return code;
}

EXPORT int nvmlDeviceGetPciInfo_v3(void *device, struct pci_info *pci)
{
    struct card *card;
    int code = look(device, &card);
    if (code != SUCCESS)
        return code;
    memset(pci, 0, sizeof(*pci));
    sscanf(card->pci, "%x:%x:%x", &pci->domain, &pci->bus, &pci->device);
    snprintf(pci->bus_id, sizeof(pci->bus_id), "%s", card->pci);
    return SUCCESS;
}

EXPORT int nvmlDeviceGetUtilizationRates(void *device, struct utilization *rates)
{
    struct card *card;
    int code = look(device, &card);
    if (code == SUCCESS)
        *rates = (struct utilization){0, 0};
    return code;
}

EXPORT int nvmlDeviceGetSerial(void *device, char *serial, unsigned int length)
{
    struct card *card;
    int code = look(device, &card);
    return code ? code : copy(serial, length, card->uuid + strlen(card->uuid) / 2);
}

EXPORT int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned int *count, void *processes)
{
    struct card *card;
    (void)processes;
    int code = look(device, &card);
    *count = 0;
    return code;
}

EXPORT int nvmlDeviceGetSupportedEventTypes(void *device, unsigned long long *types)
{
    struct card *card;
    int code = look(device, &card);
    *types = 8 | 2; /* critical XID errors, double-bit memory errors */
    return code;
}

EXPORT int nvmlEventSetCreate(struct event_set **set)
{
    *set = calloc(1, sizeof(**set));
    if (!*set || read_world() != SUCCESS)
        return UNKNOWN;
    (*set)->seen = world.xids;
    return SUCCESS;
}

EXPORT int nvmlEventSetFree(struct event_set *set)
{
    free(set);
    return SUCCESS;
}

EXPORT int nvmlDeviceRegisterEvents(void *device, unsigned long long types, struct event_set *set)
{
    struct card *card;
    int code = look(device, &card);
    if (code == SUCCESS && (types & 8))
        set->cards |= 1u << (card - world.cards);
    return code;
}

EXPORT int nvmlEventSetWait_v2(struct event_set *set, struct event *event, unsigned int timeout_ms)
{
    for (unsigned int waited = 0;; waited += 5) {
        if (read_world() == SUCCESS) {
            while (set->seen < world.xids) {
                unsigned int its = world.xid_card[set->seen];
                unsigned long long type = world.xid_type[set->seen], code = world.xid_code[set->seen];
                set->seen++;
                if (!(set->cards & 1u << its))
                    continue;
                *event = (struct event){handle(its), type, code, ~0u, ~0u};
                return SUCCESS;
            }
        }
        if (waited >= timeout_ms)
            return TIMEOUT;
        nanosleep(&(struct timespec){0, 5000000}, NULL);
    }
}

EXPORT int nvmlDeviceGetRetiredPagesPendingStatus(void *device, unsigned int *pending)
{
    struct card *card;
    int code = look(device, &card);
    if (code != SUCCESS)
        return code;
    if (card->remap >= 0 && !card->retired)
        return NOT_SUPPORTED; /* cards that remap rows retire no pages */
    *pending = (unsigned int)card->retired;
    return SUCCESS;
}

/* Of all fields only 230, the recovery action. */
EXPORT int nvmlDeviceGetFieldValues(void *device, int count, struct field_value *values)
{
    struct card *card;
    int code = look(device, &card);
    for (int i = 0; code == SUCCESS && i < count; i++) {
        int known = values[i].field == 230 && card->recovery >= 0;
        values[i].type = 1; /* unsigned int */
        values[i].code = known ? SUCCESS : NOT_SUPPORTED;
        values[i].value.number = known ? (unsigned int)card->recovery : 0;
    }
    return code;
}

#ifndef OLD_DRIVER
EXPORT int nvmlDeviceGetRemappedRows(void *device, unsigned int *corrected, unsigned int *uncorrected,
                                     unsigned int *pending, unsigned int *failed)
{
    struct card *card;
    int code = look(device, &card);
    if (code != SUCCESS)
        return code;
    if (card->remap < 0)
        return NOT_SUPPORTED;
    *corrected = 0;
    *uncorrected = *pending = card->remap == 1;
    *failed = card->remap == 2;
    return SUCCESS;
}

EXPORT int nvmlDeviceGetArchitecture(void *device, unsigned int *arch)
{
    struct card *card;
    int code = look(device, &card);
    if (code == SUCCESS)
        *arch = card->arch;
    return code;
}

EXPORT int nvmlDeviceGetMigMode(void *device, unsigned int *current, unsigned int *pending)
{
    struct card *card;
    int code = look(device, &card);
    if (code != SUCCESS)
        return code;
    if (card->mig < 0)
        return NOT_SUPPORTED;
    *current = *pending = (unsigned int)card->mig;
    return SUCCESS;
}

EXPORT int nvmlDeviceGetCudaComputeCapability(void *device, int *major, int *minor)
{
    struct card *card;
    int code = look(device, &card);
    *major = 8;
    *minor = 0;
    return code;
}
#endif

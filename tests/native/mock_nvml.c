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
 * for, -1 where it does not tell; `compute` is the compute mode (0 default, 2 prohibited, 3 one process), -1 likewise.
 *
 * MIG: a card with `mig` 0 or 1 has the profiles of an A100 with 40 GB. What is made and removed, and the mode where
 * it was switched, stand in the file's neighbour `<file>.mig`, which outlives the process and is replaced as a whole:
 *
 *   mode  <uuid> <0|1> [<0|1>: pending, if it is another]
 *   gi    <uuid> <id> <profile> <start> <size>
 *   ci    <uuid> <gi> <id> <profile> <number that makes its UUID another one each time>
 *
 * A mode that cannot be had now stays pending, as it does with NVML.
 * `busy=1` lets switching the mode, making and removing fail with 19 (in use); `reset=1` lets the mode wait for a
 * reset. Where MOCK_NVML_FILE is not set, the file is `mock-nvml.txt` beside the library.
 *
 * With -DOLD_DRIVER the functions that came with newer drivers are left out.
 *
 * Source of the signatures, codes and sizes: NVML's API reference; of the profiles: NVIDIA's MIG user guide. Limits: no
 * clocks, no fabric.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>
#include <stddef.h>
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
    INSUFFICIENT_SIZE = 7, DRIVER_NOT_LOADED = 9, TIMEOUT = 10, GPU_IS_LOST = 15, RESET_REQUIRED = 16, IN_USE = 19,
    INSUFFICIENT_RESOURCES = 23, UNKNOWN = 999,
};

struct card {
    char uuid[96], name[96], pci[32];
    unsigned long long memory;
    unsigned int minor, arch;
    int mig, error, remap, retired, recovery, busy, reset, compute;
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
    else if (!strcmp(key, "compute")) card->compute = atoi(value);
    else if (!strcmp(key, "busy")) card->busy = atoi(value);
    else if (!strcmp(key, "reset")) card->reset = atoi(value);
    else if (!strcmp(key, "error")) card->error = atoi(value);
    else { fprintf(stderr, "mock nvml: a card has no %s\n", key); abort(); }
}

static const char *world_path(void)
{
    static __thread char beside[512];
    const char *path = getenv("MOCK_NVML_FILE");
    Dl_info info;
    if (path && *path)
        return path;
    if (!dladdr((void *)world_path, &info) || !info.dli_fname)
        return "";
    snprintf(beside, sizeof(beside), "%s", info.dli_fname);
    char *end = strrchr(beside, '/');
    snprintf(end ? end + 1 : beside, 32, "mock-nvml.txt");
    return beside;
}

static int read_world(void)
{
    FILE *file = fopen(world_path(), "r");
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
    case RESET_REQUIRED: return "GPU requires reset";
    case IN_USE: return "In use by another client";
    case INSUFFICIENT_RESOURCES: return "Insufficient Resources";
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

static int mig_uuid(void *device, char *uuid, unsigned int length);

EXPORT int nvmlDeviceGetUUID(void *device, char *uuid, unsigned int length)
{
    struct card *card;
    if ((uintptr_t)device > CARDS)
        return mig_uuid(device, uuid, length);
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

EXPORT int nvmlDeviceGetComputeMode(void *device, unsigned int *mode)
{
    struct card *card;
    int code = look(device, &card);
    if (code == SUCCESS && card->compute < 0)
        return NOT_SUPPORTED;
    if (code == SUCCESS)
        *mode = (unsigned int)card->compute;
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

EXPORT int nvmlDeviceGetCudaComputeCapability(void *device, int *major, int *minor)
{
    struct card *card;
    int code = look(device, &card);
    *major = 8;
    *minor = 0;
    return code;
}

/* MIG. */

#define INSTANCES 32

struct placement { unsigned int start, size; };
struct profile {
    unsigned int id, slices, most, sm, copy, decoders, jpeg, ofa;
    unsigned long long memory;
    const char *name;
    struct placement at[8];
    unsigned int places;
};
struct profile_info {
    unsigned int id, p2p, slices, most, sm, copy, decoders, encoders, jpeg, ofa;
    unsigned long long memory;
};
struct profile_info_v2 {
    unsigned int version, id, p2p, slices, most, sm, copy, decoders, encoders, jpeg, ofa;
    unsigned long long memory;
    char name[96];
};
struct compute_info { unsigned int id, slices, most, sm, copy, decoders, encoders, jpeg, ofa; };
struct gi_info { void *device; unsigned int id, profile; struct placement at; };
struct ci_info { void *device, *gi; unsigned int id, profile; struct placement at; };
struct gi { char uuid[96]; unsigned int id, profile, start, size; };
struct ci { char uuid[96]; unsigned int gi, id, profile, serial; };
struct mig {
    unsigned int gis, cis, modes, serial;
    struct gi gi[INSTANCES];
    struct ci ci[INSTANCES];
    struct { char uuid[96]; int on, pending; } mode[CARDS];
};

static __thread struct mig mig;

/* By NVML's number of the profile's kind (1, 2, 3, 4, 7 slices, ...). */
static const struct profile PROFILES[] = {
    [0] = {19, 1, 7, 14, 1, 0, 0, 0, 4864, "MIG 1g.5gb", {{0,1},{1,1},{2,1},{3,1},{4,1},{5,1},{6,1}}, 7},
    [1] = {14, 2, 3, 28, 2, 1, 0, 0, 9856, "MIG 2g.10gb", {{0,2},{2,2},{4,2}}, 3},
    [2] = {9, 3, 2, 42, 3, 2, 0, 0, 19968, "MIG 3g.20gb", {{0,4},{4,4}}, 2},
    [3] = {5, 4, 1, 56, 4, 2, 0, 0, 19968, "MIG 4g.20gb", {{0,4}}, 1},
    [4] = {0, 7, 1, 98, 7, 5, 1, 1, 40192, "MIG 7g.40gb", {{0,8}}, 1},
    [7] = {20, 1, 1, 14, 1, 1, 1, 1, 4864, "MIG 1g.5gb+me", {{0,1},{1,1},{2,1},{3,1},{4,1},{5,1},{6,1}}, 7},
    [9] = {15, 1, 4, 14, 1, 1, 0, 0, 9856, "MIG 1g.10gb", {{0,2},{2,2},{4,2},{6,2}}, 4},
};
#define KINDS (sizeof(PROFILES) / sizeof(PROFILES[0]))
static const unsigned int SLICES[] = {1, 2, 3, 4, 7}; /* of compute instances, by their number */

static const struct profile *profile_of(unsigned int id)
{
    for (unsigned int i = 0; i < KINDS; i++)
        if (PROFILES[i].most && PROFILES[i].id == id)
            return &PROFILES[i];
    return NULL;
}

static void mig_path(char *path, size_t size, const char *suffix)
{
    snprintf(path, size, "%s%s", world_path(), suffix);
}

static int read_mig(void)
{
    char path[600], line[256];
    mig_path(path, sizeof(path), ".mig");
    memset(&mig, 0, sizeof(mig));
    FILE *file = fopen(path, "r");
    if (!file)
        return SUCCESS;
    while (fgets(line, sizeof(line), file)) {
        struct gi *gi = &mig.gi[mig.gis % INSTANCES];
        struct ci *ci = &mig.ci[mig.cis % INSTANCES];
        if (sscanf(line, "serial %u", &mig.serial) == 1)
            continue;
        unsigned int m = mig.modes % CARDS;
        int words = sscanf(line, "mode %95s %d %d", mig.mode[m].uuid, &mig.mode[m].on, &mig.mode[m].pending);
        if (words == 2)
            mig.mode[m].pending = mig.mode[m].on;
        if (words >= 2)
            mig.modes++;
        else if (sscanf(line, "gi %95s %u %u %u %u", gi->uuid, &gi->id, &gi->profile, &gi->start, &gi->size) == 5)
            mig.gis++;
        else if (sscanf(line, "ci %95s %u %u %u %u", ci->uuid, &ci->gi, &ci->id, &ci->profile, &ci->serial) == 5)
            mig.cis++;
        else { fprintf(stderr, "mock nvml: %s is not understood\n", line); abort(); }
    }
    fclose(file);
    return SUCCESS;
}

static int write_mig(void)
{
    char path[600], fresh[600];
    mig_path(path, sizeof(path), ".mig");
    mig_path(fresh, sizeof(fresh), ".mig.new");
    FILE *file = fopen(fresh, "w");
    if (!file)
        return UNKNOWN;
    fprintf(file, "serial %u\n", mig.serial);
    for (unsigned int i = 0; i < mig.modes; i++)
        if (mig.mode[i].pending == mig.mode[i].on)
            fprintf(file, "mode %s %d\n", mig.mode[i].uuid, mig.mode[i].on);
        else
            fprintf(file, "mode %s %d %d\n", mig.mode[i].uuid, mig.mode[i].on, mig.mode[i].pending);
    for (unsigned int i = 0; i < mig.gis; i++)
        fprintf(file, "gi %s %u %u %u %u\n", mig.gi[i].uuid, mig.gi[i].id, mig.gi[i].profile, mig.gi[i].start,
                mig.gi[i].size);
    for (unsigned int i = 0; i < mig.cis; i++)
        fprintf(file, "ci %s %u %u %u %u\n", mig.ci[i].uuid, mig.ci[i].gi, mig.ci[i].id, mig.ci[i].profile,
                mig.ci[i].serial);
    if (fclose(file) || rename(fresh, path))
        return UNKNOWN;
    return SUCCESS;
}

/* The driver does one such thing at a time; a process that dies gives the lock back. */
static int locked(void)
{
    char path[600];
    mig_path(path, sizeof(path), ".mig.lock");
    int handle = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (handle >= 0)
        flock(handle, LOCK_EX);
    return handle;
}

static int mode_of(const struct card *card)
{
    for (unsigned int i = 0; i < mig.modes; i++)
        if (!strcmp(mig.mode[i].uuid, card->uuid))
            return mig.mode[i].on;
    return card->mig;
}

static int pending_of(const struct card *card)
{
    for (unsigned int i = 0; i < mig.modes; i++)
        if (!strcmp(mig.mode[i].uuid, card->uuid))
            return mig.mode[i].pending;
    return card->mig;
}

static int look_mig(void *device, struct card **card)
{
    int code = look(device, card);
    if (code == SUCCESS && (*card)->mig < 0)
        code = NOT_SUPPORTED;
    return code ? code : read_mig();
}

EXPORT int nvmlDeviceGetMigMode(void *device, unsigned int *current, unsigned int *pending)
{
    struct card *card;
    int code = look_mig(device, &card);
    if (code == SUCCESS) {
        *current = (unsigned int)mode_of(card);
        *pending = (unsigned int)pending_of(card);
    }
    return code;
}

static int has_instances(const struct card *card)
{
    for (unsigned int i = 0; i < mig.gis; i++)
        if (!strcmp(mig.gi[i].uuid, card->uuid))
            return 1;
    return 0;
}

static int set_mode(struct card *card, unsigned int mode, unsigned int *status)
{
    unsigned int i = 0;
    int on = mode_of(card), changes = on != (int)mode;
    if (changes && (card->reset || card->busy || (!mode && has_instances(card))))
        *status = card->reset ? RESET_REQUIRED : IN_USE;
    else
        on = (int)mode;
    while (i < mig.modes && strcmp(mig.mode[i].uuid, card->uuid))
        i++;
    snprintf(mig.mode[i].uuid, sizeof(mig.mode[i].uuid), "%s", card->uuid);
    mig.mode[i].on = on;
    mig.mode[i].pending = (int)mode;
    if (i == mig.modes)
        mig.modes++;
    return write_mig();
}

EXPORT int nvmlDeviceSetMigMode(void *device, unsigned int mode, unsigned int *status)
{
    struct card *card;
    int lock = locked(), code = look_mig(device, &card);
    *status = SUCCESS;
    if (code == SUCCESS && (mode_of(card) != (int)mode || pending_of(card) != (int)mode))
        code = set_mode(card, mode, status);
    close(lock);
    return code;
}

static const struct profile *kind(unsigned int number)
{
    return number < KINDS && PROFILES[number].most ? &PROFILES[number] : NULL;
}

EXPORT int nvmlDeviceGetGpuInstanceProfileInfo(void *device, unsigned int number, struct profile_info *info)
{
    struct card *card;
    const struct profile *found = kind(number);
    int code = look_mig(device, &card);
    if (code == SUCCESS && !found)
        code = NOT_SUPPORTED;
    if (code == SUCCESS)
        *info = (struct profile_info){found->id, 0, found->slices, found->most, found->sm, found->copy,
                                      found->decoders, 0, found->jpeg, found->ofa, found->memory};
    return code;
}

EXPORT int nvmlDeviceGetGpuInstanceProfileInfoV(void *device, unsigned int number, struct profile_info_v2 *info)
{
    struct profile_info plain;
    int code = nvmlDeviceGetGpuInstanceProfileInfo(device, number, &plain);
    if (code != SUCCESS)
        return code;
    memcpy(&info->id, &plain, offsetof(struct profile_info, memory));
    info->memory = plain.memory;
    return copy(info->name, sizeof(info->name), kind(number)->name);
}

EXPORT int nvmlDeviceGetGpuInstancePossiblePlacements_v2(void *device, unsigned int id, struct placement *places,
                                                         unsigned int *count)
{
    struct card *card;
    const struct profile *found = profile_of(id);
    int code = look_mig(device, &card);
    if (code == SUCCESS && !found)
        code = INVALID_ARGUMENT;
    if (code != SUCCESS)
        return code;
    *count = found->places;
    if (places)
        memcpy(places, found->at, found->places * sizeof(*places));
    return SUCCESS;
}

static void *gi_handle(const struct card *card, unsigned int id)
{
    return (void *)(((uintptr_t)(card - world.cards) + 1) << 32 | (id + 1));
}

static struct card *card_at(uintptr_t handle) { return &world.cards[(handle >> 32) - 1]; }

static int look_gi(void *handle, struct card **card, struct gi **gi)
{
    uintptr_t number = (uintptr_t)handle;
    if (!initialised || read_world() != SUCCESS || read_mig() != SUCCESS)
        return UNINITIALIZED;
    if ((number >> 32) < 1 || (number >> 32) > world.count)
        return INVALID_ARGUMENT;
    *card = card_at(number);
    for (unsigned int i = 0; i < mig.gis; i++) {
        *gi = &mig.gi[i];
        if (!strcmp((*gi)->uuid, (*card)->uuid) && (*gi)->id + 1 == (number & 0xffff))
            return (*card)->error;
    }
    return NOT_FOUND;
}

static int fits(const struct card *card, const struct profile *wanted, const struct placement *at)
{
    const struct profile *whole = &PROFILES[4];
    unsigned int same = 0, decoders = wanted->decoders, jpeg = wanted->jpeg, ofa = wanted->ofa, slices = wanted->slices;
    for (unsigned int i = 0; i < mig.gis; i++) {
        const struct gi *one = &mig.gi[i];
        const struct profile *its = profile_of(one->profile);
        if (strcmp(one->uuid, card->uuid))
            continue;
        if (at->start < one->start + one->size && one->start < at->start + at->size)
            return 0;
        same += its == wanted;
        decoders += its->decoders;
        jpeg += its->jpeg;
        ofa += its->ofa;
        slices += its->slices;
    }
    return same < wanted->most && decoders <= whole->decoders && jpeg <= whole->jpeg && ofa <= whole->ofa
        && slices <= whole->slices;
}

static int create_gi(struct card *card, unsigned int id, const struct placement *at, void **handle)
{
    const struct profile *wanted = profile_of(id);
    unsigned int place = 0, number = 1;
    if (mode_of(card) != 1)
        return NOT_SUPPORTED;
    while (wanted && place < wanted->places && memcmp(&wanted->at[place], at, sizeof(*at)))
        place++;
    if (!wanted || place == wanted->places)
        return INVALID_ARGUMENT;
    if (!fits(card, wanted, at) || mig.gis == INSTANCES)
        return INSUFFICIENT_RESOURCES;
    for (unsigned int i = 0; i < mig.gis; i++)
        if (!strcmp(mig.gi[i].uuid, card->uuid) && mig.gi[i].id == number) {
            number++;
            i = (unsigned int)-1;
        }
    struct gi *made = &mig.gi[mig.gis++];
    *made = (struct gi){"", number, id, at->start, at->size};
    snprintf(made->uuid, sizeof(made->uuid), "%s", card->uuid);
    *handle = gi_handle(card, number);
    return write_mig();
}

EXPORT int nvmlDeviceCreateGpuInstanceWithPlacement(void *device, unsigned int id, const struct placement *at,
                                                    void **handle)
{
    struct card *card;
    int lock = locked(), code = look_mig(device, &card);
    if (code == SUCCESS)
        code = card->busy ? IN_USE : create_gi(card, id, at, handle);
    close(lock);
    return code;
}

EXPORT int nvmlDeviceGetGpuInstances(void *device, unsigned int id, void **handles, unsigned int *count)
{
    struct card *card;
    int code = look_mig(device, &card);
    *count = 0;
    for (unsigned int i = 0; code == SUCCESS && i < mig.gis; i++)
        if (!strcmp(mig.gi[i].uuid, card->uuid) && mig.gi[i].profile == id)
            handles[(*count)++] = gi_handle(card, mig.gi[i].id);
    return code;
}

EXPORT int nvmlDeviceGetGpuInstanceById(void *device, unsigned int id, void **handle)
{
    struct card *card;
    struct gi *gi;
    int code = look_mig(device, &card);
    if (code != SUCCESS)
        return code;
    *handle = gi_handle(card, id);
    return look_gi(*handle, &card, &gi);
}

EXPORT int nvmlGpuInstanceGetInfo(void *handle, struct gi_info *info)
{
    struct card *card;
    struct gi *gi;
    int code = look_gi(handle, &card, &gi);
    if (code == SUCCESS)
        *info = (struct gi_info){(void *)(uintptr_t)(card - world.cards + 1), gi->id, gi->profile,
                                 {gi->start, gi->size}};
    return code;
}

EXPORT int nvmlGpuInstanceDestroy(void *handle)
{
    struct card *card;
    struct gi *gi;
    int lock = locked(), code = look_gi(handle, &card, &gi);
    if (code == SUCCESS && card->busy)
        code = IN_USE;
    for (unsigned int i = 0; code == SUCCESS && i < mig.cis; i++)
        if (!strcmp(mig.ci[i].uuid, card->uuid) && mig.ci[i].gi == gi->id)
            code = IN_USE;
    if (code == SUCCESS) {
        *gi = mig.gi[--mig.gis];
        code = write_mig();
    }
    close(lock);
    return code;
}

EXPORT int nvmlGpuInstanceGetComputeInstanceProfileInfo(void *handle, unsigned int number, unsigned int engines,
                                                        struct compute_info *info)
{
    struct card *card;
    struct gi *gi;
    int code = look_gi(handle, &card, &gi);
    if (code != SUCCESS)
        return code;
    if (engines || number >= sizeof(SLICES) / sizeof(SLICES[0]) || SLICES[number] > profile_of(gi->profile)->slices)
        return NOT_SUPPORTED;
    *info = (struct compute_info){number, SLICES[number], profile_of(gi->profile)->slices / SLICES[number],
                                  14 * SLICES[number], 1, 0, 0, 0, 0};
    return SUCCESS;
}

static void *ci_handle(void *gi, unsigned int id) { return (void *)((uintptr_t)gi | (uintptr_t)(id + 1) << 16); }

static int look_ci(void *handle, struct card **card, struct gi **gi, struct ci **ci)
{
    uintptr_t number = (uintptr_t)handle;
    int code = look_gi(handle, card, gi);
    for (unsigned int i = 0; code == SUCCESS && i < mig.cis; i++) {
        *ci = &mig.ci[i];
        if (!strcmp((*ci)->uuid, (*card)->uuid) && (*ci)->gi == (*gi)->id && (*ci)->id + 1 == (number >> 16 & 0xffff))
            return SUCCESS;
    }
    return code ? code : NOT_FOUND;
}

EXPORT int nvmlGpuInstanceGetComputeInstances(void *handle, unsigned int id, void **handles, unsigned int *count)
{
    struct card *card;
    struct gi *gi;
    int code = look_gi(handle, &card, &gi);
    *count = 0;
    for (unsigned int i = 0; code == SUCCESS && i < mig.cis; i++)
        if (!strcmp(mig.ci[i].uuid, card->uuid) && mig.ci[i].gi == gi->id && mig.ci[i].profile == id)
            handles[(*count)++] = ci_handle(handle, mig.ci[i].id);
    return code;
}

EXPORT int nvmlGpuInstanceCreateComputeInstance(void *handle, unsigned int profile, void **made)
{
    struct card *card;
    struct gi *gi;
    int lock = locked(), code = look_gi(handle, &card, &gi);
    unsigned int used = 0, id = 0;
    for (unsigned int i = 0; code == SUCCESS && i < mig.cis; i++)
        if (!strcmp(mig.ci[i].uuid, card->uuid) && mig.ci[i].gi == gi->id) {
            used += SLICES[mig.ci[i].profile];
            id += 1;
        }
    if (code == SUCCESS && (profile >= 5 || used + SLICES[profile] > profile_of(gi->profile)->slices))
        code = INSUFFICIENT_RESOURCES;
    if (code == SUCCESS) {
        struct ci *one = &mig.ci[mig.cis++ % INSTANCES];
        *one = (struct ci){"", gi->id, id, profile, ++mig.serial};
        snprintf(one->uuid, sizeof(one->uuid), "%s", card->uuid);
        *made = ci_handle(handle, id);
        code = write_mig();
    }
    close(lock);
    return code;
}

EXPORT int nvmlComputeInstanceGetInfo_v2(void *handle, struct ci_info *info)
{
    struct card *card;
    struct gi *gi;
    struct ci *ci;
    int code = look_ci(handle, &card, &gi, &ci);
    if (code == SUCCESS)
        *info = (struct ci_info){(void *)(uintptr_t)(card - world.cards + 1), gi_handle(card, gi->id), ci->id,
                                 ci->profile, {0, SLICES[ci->profile]}};
    return code;
}

EXPORT int nvmlComputeInstanceDestroy(void *handle)
{
    struct card *card;
    struct gi *gi;
    struct ci *ci;
    int lock = locked(), code = look_ci(handle, &card, &gi, &ci);
    if (code == SUCCESS && card->busy)
        code = IN_USE;
    if (code == SUCCESS) {
        *ci = mig.ci[--mig.cis];
        code = write_mig();
    }
    close(lock);
    return code;
}

EXPORT int nvmlDeviceGetMaxMigDeviceCount(void *device, unsigned int *count)
{
    struct card *card;
    int code = look(device, &card);
    *count = code == SUCCESS && card->mig >= 0 ? 7 : 0;
    return code;
}

/* The handle of a MIG device is that of its compute instance. */
EXPORT int nvmlDeviceGetMigDeviceHandleByIndex(void *device, unsigned int index, void **handle)
{
    struct card *card;
    unsigned int number = 0;
    int code = look_mig(device, &card);
    for (unsigned int i = 0; code == SUCCESS && i < mig.cis; i++)
        if (!strcmp(mig.ci[i].uuid, card->uuid) && number++ == index) {
            *handle = ci_handle(gi_handle(card, mig.ci[i].gi), mig.ci[i].id);
            return SUCCESS;
        }
    return code ? code : NOT_FOUND;
}

EXPORT int nvmlDeviceGetGpuInstanceId(void *device, unsigned int *id)
{
    *id = (unsigned int)((uintptr_t)device & 0xffff) - 1;
    return SUCCESS;
}

EXPORT int nvmlDeviceGetComputeInstanceId(void *device, unsigned int *id)
{
    *id = (unsigned int)((uintptr_t)device >> 16 & 0xffff) - 1;
    return SUCCESS;
}

static int mig_uuid(void *device, char *uuid, unsigned int length)
{
    struct card *card;
    struct gi *gi;
    struct ci *ci;
    char text[96];
    int code = look_ci(device, &card, &gi, &ci);
    if (code != SUCCESS)
        return code;
    snprintf(text, sizeof(text), "MIG-00000000-0000-4000-8%03x-%06x%06x", (unsigned int)(card - world.cards), gi->id,
             ci->serial);
    return copy(uuid, length, text);
}
#else
static int mig_uuid(void *device, char *uuid, unsigned int length)
{
    (void)device, (void)uuid, (void)length;
    return INVALID_ARGUMENT;
}
#endif

/*
 * libdcmi.so for tests, scripted by the file that MOCK_DCMI_FILE names and read anew at each call.
 *
 * Lines of the file (fields are separated by tabs):
 *
 *   init  <code>      what dcmi_init answers
 *   list  <code>      what dcmi_get_card_list answers
 *   chip  card=0  device=0  type=0  logic=0  phy=0  pci=0000:c1:00.0  die=1-2-3-4-A  name=910B3  cores=20
 *         hbm=65536  memory=0  health=0  error=0
 *
 * `type` is 0 for an NPU, 1 for the card's controller, 2 for its processor; `hbm` and `memory` count MB, and 0
 * makes the question not supported (-8255). `error` makes every question about the chip fail with that code.
 *
 * With -DOLD_DRIVER the functions that came with newer drivers are left out.
 *
 * Source of the signatures, structures and codes: Huawei's dcmi_interface_api.h. Limits: one file, no vNPUs.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
#define CHIPS 64

enum { OK = 0, INVALID_PARAMETER = -8001, DEVICE_NOT_EXIST = -8008, NOT_SUPPORTED = -8255 };

struct chip {
    int card, device, type, logic, error;
    unsigned int phy, domain, bus, slot, function, die[5], cores, health;
    char name[32];
    unsigned long long hbm, memory;
};

struct chip_info { unsigned char type[32], name[32], version[32]; unsigned int cores; };
struct chip_info_v2 { unsigned char type[32], name[32], version[32]; unsigned int cores; unsigned char npu_name[32]; };
struct pcie_info {
    unsigned int vendor, subvendor, device, subdevice;
    int domain;
    unsigned int bus, slot, function;
    unsigned char reserved[32];
};
struct die_id { unsigned int words[5]; };
struct hbm_info { unsigned long long size; unsigned int freq; unsigned long long usage; int temp; unsigned int bandwidth; };
struct memory_info {
    unsigned long long size, available;
    unsigned int freq;
    unsigned long huge_size, huge_total, huge_free;
    unsigned int utilization;
    unsigned char reserved[60];
};

static int init_code, list_code, count;
static struct chip chips[CHIPS];

static void field(struct chip *chip, const char *key, const char *value)
{
    unsigned int *die = chip->die;
    if (!strcmp(key, "card")) chip->card = atoi(value);
    else if (!strcmp(key, "device")) chip->device = atoi(value);
    else if (!strcmp(key, "type")) chip->type = atoi(value);
    else if (!strcmp(key, "logic")) chip->logic = atoi(value);
    else if (!strcmp(key, "phy")) chip->phy = (unsigned int)strtoul(value, NULL, 10);
    else if (!strcmp(key, "error")) chip->error = atoi(value);
    else if (!strcmp(key, "cores")) chip->cores = (unsigned int)strtoul(value, NULL, 10);
    else if (!strcmp(key, "health")) chip->health = (unsigned int)strtoul(value, NULL, 0);
    else if (!strcmp(key, "hbm")) chip->hbm = strtoull(value, NULL, 10);
    else if (!strcmp(key, "memory")) chip->memory = strtoull(value, NULL, 10);
    else if (!strcmp(key, "name")) snprintf(chip->name, sizeof(chip->name), "%.31s", value);
    else if (!strcmp(key, "pci")) sscanf(value, "%x:%x:%x.%x", &chip->domain, &chip->bus, &chip->slot, &chip->function);
    else if (!strcmp(key, "die")) sscanf(value, "%x-%x-%x-%x-%x", die, die + 1, die + 2, die + 3, die + 4);
    else { fprintf(stderr, "mock dcmi: a chip has no %s\n", key); abort(); }
}

static void read_world(void)
{
    const char *path = getenv("MOCK_DCMI_FILE");
    FILE *file = path ? fopen(path, "r") : NULL;
    char line[1024];
    init_code = list_code = count = 0;
    if (!file) {
        init_code = -8005;
        return;
    }
    while (fgets(line, sizeof(line), file)) {
        char *rest = line, *word = strsep(&rest, "\t\n");
        if (!strcmp(word, "init") && rest) init_code = atoi(rest);
        else if (!strcmp(word, "list") && rest) list_code = atoi(rest);
        else if (!strcmp(word, "chip") && count < CHIPS) {
            memset(&chips[count], 0, sizeof(chips[count]));
            while (rest && (word = strsep(&rest, "\t\n"))) {
                char *value = strchr(word, '=');
                if (!value) continue;
                *value++ = 0;
                field(&chips[count], word, value);
            }
            count++;
        }
    }
    fclose(file);
}

static int find(int card, int device, const struct chip **found)
{
    read_world();
    for (int i = 0; i < count; i++)
        if (chips[i].card == card && chips[i].device == device) {
            *found = &chips[i];
            return chips[i].error;
        }
    return DEVICE_NOT_EXIST;
}

EXPORT int dcmi_init(void)
{
    read_world();
    return init_code;
}

EXPORT int dcmi_get_card_list(int *number, int *list, int length)
{
    read_world();
    *number = 0;
    if (list_code) return list_code;
    for (int i = 0; i < count; i++) {
        int known = 0;
        for (int j = 0; j < *number; j++) known |= list[j] == chips[i].card;
        if (!known && *number < length) list[(*number)++] = chips[i].card;
    }
    return OK;
}

EXPORT int dcmi_get_device_num_in_card(int card, int *number)
{
    read_world();
    *number = 0;
    for (int i = 0; i < count; i++) *number += chips[i].card == card;
    return *number ? OK : DEVICE_NOT_EXIST;
}

EXPORT int dcmi_get_device_pcie_info_v2(int card, int device, struct pcie_info *info)
{
    const struct chip *chip;
    int code = find(card, device, &chip);
    if (code) return code;
    memset(info, 0, sizeof(*info));
    info->domain = (int)chip->domain;
    info->bus = chip->bus;
    info->slot = chip->slot;
    info->function = chip->function;
    return OK;
}

EXPORT int dcmi_get_device_die_v2(int card, int device, int kind, struct die_id *id)
{
    const struct chip *chip;
    int code = find(card, device, &chip);
    if (code) return code;
    if (kind != 0 && kind != 1) return INVALID_PARAMETER;
    /* 0 is the ID of the node die, which is another one. */
    for (int i = 0; i < 5; i++) id->words[i] = kind == 1 ? chip->die[i] : ~chip->die[i];
    return OK;
}

EXPORT int dcmi_get_device_logic_id(int *logic, int card, int device)
{
    const struct chip *chip;
    int code = find(card, device, &chip);
    if (code) return code;
    *logic = chip->logic;
    return OK;
}

EXPORT int dcmi_get_device_phyid_from_logicid(unsigned int logic, unsigned int *phy)
{
    read_world();
    for (int i = 0; i < count; i++)
        if (chips[i].logic == (int)logic) {
            *phy = chips[i].phy;
            return OK;
        }
    return DEVICE_NOT_EXIST;
}

EXPORT int dcmi_get_device_chip_info(int card, int device, struct chip_info *info)
{
    const struct chip *chip;
    int code = find(card, device, &chip);
    if (code) return code;
    memset(info, 0, sizeof(*info));
    strcpy((char *)info->type, "Ascend");
    strcpy((char *)info->name, chip->name);
    strcpy((char *)info->version, "V1");
    info->cores = chip->cores;
    return OK;
}

EXPORT int dcmi_get_device_health(int card, int device, unsigned int *health)
{
    const struct chip *chip;
    int code = find(card, device, &chip);
    if (!code) *health = chip->health;
    return code;
}

EXPORT int dcmi_get_device_hbm_info(int card, int device, struct hbm_info *info)
{
    const struct chip *chip;
    int code = find(card, device, &chip);
    if (code) return code;
    if (!chip->hbm) return NOT_SUPPORTED;
    memset(info, 0, sizeof(*info));
    info->size = chip->hbm;
    return OK;
}

EXPORT int dcmi_get_device_memory_info_v3(int card, int device, struct memory_info *info)
{
    const struct chip *chip;
    int code = find(card, device, &chip);
    if (code) return code;
    if (!chip->memory) return NOT_SUPPORTED;
    memset(info, 0, sizeof(*info));
    info->size = chip->memory;
    memset(info->reserved, 0xFF, sizeof(info->reserved));
    return OK;
}

#ifndef OLD_DRIVER
EXPORT int dcmi_get_device_type(int card, int device, int *type)
{
    const struct chip *chip;
    int code = find(card, device, &chip);
    if (!code) *type = chip->type;
    return code;
}

EXPORT int dcmi_get_device_chip_info_v2(int card, int device, struct chip_info_v2 *info)
{
    const struct chip *chip;
    int code = find(card, device, &chip);
    if (code) return code;
    memset(info, 0, sizeof(*info));
    strcpy((char *)info->type, "Ascend");
    strcpy((char *)info->name, chip->name);
    info->cores = chip->cores;
    strcpy((char *)info->npu_name, chip->name);
    return OK;
}
#endif

/*
 * The shared region of HAMi-core 1.1 and 1.2 as far as anybody reads it: what the stub library writes and the
 * layout tests hold the agent's table against.
 */
#pragma once
#include <semaphore.h>
#include <stdint.h>
#include <stddef.h>

#define CARDS 16
#define PROCESSES 1024
#define MAGIC 19920718

struct memory_use {
    uint64_t context, module, data, offset, total, spare[3];
};

struct load {
    uint64_t decoder, encoder, compute, spare[3];
};

struct slot {
    int32_t pid, host_pid;
    struct memory_use used[CARDS];
    uint64_t monitored[CARDS];
    struct load load[CARDS];
    int32_t status;
    uint64_t sequence, spare[2];
};

struct region {
    int32_t magic;
    uint32_t major, minor;
    int32_t scaled;
    size_t owner;
    sem_t lock;
    uint64_t cards;
    char uuids[CARDS][96];
    uint64_t memory[CARDS];
    uint64_t cores[CARDS];
    struct slot slots[PROCESSES];
    int32_t processes, utilization_switch, recent_kernel, priority;
    uint64_t last_kernel;
    sem_t start;
};

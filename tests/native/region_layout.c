/* Prints where this compiler puts the fields of the region: what the agent's table has to say as well. */
#include "region.h"
#include <stdio.h>

#define PLACE(field) printf("%zu ", offsetof(struct region, field))

int main(void)
{
    PLACE(uuids);
    PLACE(memory);
    PLACE(cores);
    PLACE(slots);
    PLACE(processes);
    PLACE(utilization_switch);
    PLACE(recent_kernel);
    PLACE(priority);
    PLACE(last_kernel);
    printf("%zu %zu ", sizeof(struct region), sizeof(struct slot));
    printf("%zu %zu\n", offsetof(struct slot, used[1].total), offsetof(struct slot, load[1].compute));
    return 0;
}

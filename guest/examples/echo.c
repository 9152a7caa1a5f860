/*
 * echo: every item of every input set, in the output set `out`, with its name and key.
 */
#include "lichen.h"

int lichen_main(void) {
    for (size_t set = 0; set < lichen_inputs(); set++) {
        for (size_t i = 0; i < lichen_items(set); i++) {
            lichen_item item;
            if (lichen_get(set, i, &item) || lichen_put("out", &item))
                return 1;
        }
    }
    return 0;
}

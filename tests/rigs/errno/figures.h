/* Results for the page of reliability: one JSON object a line in the file that FAULTS_RESULTS names (tests/rigs/faults/README.md). */
#ifndef FIGURES_H
#define FIGURES_H

#include <stdio.h>
#include <stdlib.h>

static inline void record(const char *row, const char *way, const char *measured, const char *goal, int met) {
    const char *path = getenv("FAULTS_RESULTS");
    FILE *file = path != NULL && *path != '\0' ? fopen(path, "ae") : NULL;
    if (file == NULL) return;
    fprintf(file, "{\"part\":\"errno\",\"row\":\"%s\",\"contender\":\"libcluster %s\",\"measured\":\"%s\",\"goal\":\"%s\",\"met\":%s}\n",
            row, way, measured, goal, met ? "true" : "false");
    fclose(file);
}

#endif

#include <stdio.h>
#include <stdlib.h>

#include "solve.h"

int main(int argc, char **argv)
{
    int size = argc > 1 ? atoi(argv[1]) : 8;

    if (size < 1 || size > 14) {
        fprintf(stderr, "%s: a board has 1 to 14 rows\n", argv[0]);
        return 2;
    }
    printf("%d queens: %lu solutions\n", size, solve_queens(size));
    return 0;
}

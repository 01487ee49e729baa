#include "solve.h"
#include "board.h"

static unsigned long rows_left(struct board board, int size, int rows)
{
    unsigned long found = 0;
    unsigned squares;

    if (rows == 0)
        return 1;
    for (squares = board_free(board, size); squares; squares &= squares - 1)
        found += rows_left(board_place(board, squares & -squares), size, rows - 1);
    return found;
}

unsigned long solve_queens(int size)
{
    struct board empty = {0, 0, 0};

    return rows_left(empty, size, size);
}

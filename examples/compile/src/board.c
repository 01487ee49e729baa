#include "board.h"

unsigned board_free(struct board board, int size)
{
    return ~(board.columns | board.rising | board.falling) & ((1u << size) - 1);
}

struct board board_place(struct board board, unsigned square)
{
    struct board next = {
        .columns = board.columns | square,
        .rising = (board.rising | square) << 1,
        .falling = (board.falling | square) >> 1,
    };
    return next;
}

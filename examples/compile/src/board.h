/* A chess board as three sets of bits: columns and both directions of diagonals that a queen attacks. */
#ifndef BOARD_H
#define BOARD_H

struct board {
    unsigned columns, rising, falling;
};

/* Squares of the next row that no queen attacks, one bit each. */
unsigned board_free(struct board board, int size);

/* The board with a queen on `square` of the next row, seen from the row after it. */
struct board board_place(struct board board, unsigned square);

#endif

#ifndef SOLVE_H
#define SOLVE_H

/* In how many ways `size` queens stand on a board of size × size without attacking each other. */
unsigned long solve_queens(int size);

#endif

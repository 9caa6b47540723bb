//#Modes: root user leave left
// Descriptors in flight that another process receives than the one which made them.
#define TREE
#include "flights.c"

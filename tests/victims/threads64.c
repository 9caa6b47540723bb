//#Flags: -DTHREADS=64
//#Modes: root user leave empty
#include "threads.h"

// `true`; with an argument it sleeps until it is killed: an idle sandbox.
#include <unistd.h>

int main(int argc, char**) {
  if (argc > 1) {
    for (;;) pause();
  }
  return 0;
}

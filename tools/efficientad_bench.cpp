#include "efficientad/cli/app.h"

int main(int argc, char** argv) { return efficientad::run_command("bench", argc, argv); }

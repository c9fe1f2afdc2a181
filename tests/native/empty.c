/* What an administrator who named the wrong file for the preload library might have named. */
__attribute__((visibility("default"))) int dragoman_empty(void) { return 0; }

// Compiles the precompiled header that every module shares.

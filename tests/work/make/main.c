#include "words.h"

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: wordcount FILE\n");
        return 2;
    }
    FILE *file = fopen(argv[1], "r");
    if (!file) {
        perror(argv[1]);
        return 1;
    }
    printf("%ld\n", count_words(file));
    fclose(file);
    return 0;
}

#include "words.h"

#include <ctype.h>

long count_words(FILE *file) {
    long words = 0;
    int inside = 0;
    for (int c = getc(file); c != EOF; c = getc(file)) {
        int space = isspace(c);
        words += !space && !inside;
        inside = !space;
    }
    return words;
}

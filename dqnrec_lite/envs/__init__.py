"""The book's worlds, as Gymnasium environments; the small ones solved exactly too."""

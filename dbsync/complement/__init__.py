"""The complement: values that an older schema cannot hold, kept in its database until it goes up again."""

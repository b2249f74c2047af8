"""Made-up trade on a copy of a database, and one return of that copy to the older schema."""

"""From records to answers: tables, statistics, comparisons, caveats. Reads a store, writes nothing."""

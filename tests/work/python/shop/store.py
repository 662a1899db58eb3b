"""A stock list in SQLite."""

import sqlite3


class Store:
    def __init__(self, path):
        self.connection = sqlite3.connect(path)
        self.connection.execute("create table if not exists stock (name text primary key, count integer)")

    def add(self, name, count):
        with self.connection:
            self.connection.execute(
                "insert into stock values (?, ?) on conflict (name) do update set count = count + excluded.count", (name, count)
            )

    def count(self, name):
        row = self.connection.execute("select count from stock where name = ?", (name,)).fetchone()
        return row[0] if row else 0


def main():
    store = Store(":memory:")
    store.add("apple", 3)
    print(store.count("apple"))

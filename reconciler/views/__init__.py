"""Values as text, JSON and markdown for people and programs. Must not: fetch or decide anything."""

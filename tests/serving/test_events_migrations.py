"""A database is brought to the tables of this version, from empty, by many at once, and never past what is known."""

import subprocess
import sys

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from taoemb.errors import InputError, TaoembError
from taoemb.serving.events.database import open_engine
from taoemb.serving.events.migrate import migrate
from taoemb.serving.events.tables import metadata


def test_migrations_make_exactly_the_tables_of_the_metadata(database):
    migrate(database)
    engine = open_engine(database, timeout_s=5)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_many_processes_may_start_at_once(database):
    program = "import sys; from taoemb.serving.events.migrate import migrate; print(migrate(sys.argv[1]))"
    started = [
        subprocess.Popen([sys.executable, "-c", program, database], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(5)
    ]
    ended = [process.communicate(timeout=120) for process in started]
    assert [process.returncode for process in started] == [0] * 5, ended
    assert len({out for out, _ in ended}) == 1


def test_migrating_again_changes_nothing(database):
    assert migrate(database) == migrate(database)


def test_a_database_of_a_newer_version_is_refused(database):
    migrate(database)
    engine = open_engine(database, timeout_s=5)
    with engine.connect() as connection, connection.begin():
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(TaoembError, match="newer taoemb"):
        migrate(database)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("not a url", "not a SQLAlchemy URL"),
        ("mysql://somewhere/db", "use sqlite:///FILE or postgresql"),
        ("sqlite://", "name a file"),
        ("sqlite:////proc/nowhere/events.db", "name a folder that can be written"),
    ],
)
def test_a_url_that_cannot_work_is_bad_input(url, says):
    with pytest.raises(InputError, match=says):
        migrate(url)


def test_an_absent_server_is_told_without_its_password():
    with pytest.raises(TaoembError) as failure:
        migrate("postgresql+psycopg://shop:secret@127.0.0.1:9/events")
    assert "127.0.0.1" in str(failure.value)
    assert "secret" not in str(failure.value)
    assert not isinstance(failure.value, InputError)


def test_a_file_that_is_no_database_is_told(tmp_path):
    (tmp_path / "notes.txt").write_text("not a database " * 100)
    with pytest.raises(TaoembError, match="file is not a database"):
        migrate(f"sqlite:///{tmp_path}/notes.txt")

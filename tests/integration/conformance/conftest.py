"""One server of each listed sink for all of the kit; and the story that its tests are told in."""

import pytest
from listed import LISTED
from story import Story


@pytest.fixture(scope="session", params=sorted(LISTED))
def sink(request):
    made = LISTED[request.param]()
    try:
        made.start()
        yield made
    finally:
        made.close()


@pytest.fixture
def story(sink, redis, source_name):
    with Story(sink, redis, source_name) as told:
        yield told

"""The services of a worker, one round at a time."""


def run_service(worker, name):
    """Run one round of the service *name* of *worker*; return what it returns."""
    (service,) = [one for one in worker.services if one.name == name]
    return service.run_once()

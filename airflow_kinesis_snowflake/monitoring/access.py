"""Who may see the page: what Airflow lets a user read.

The names that Airflow makes no promise about are all here.
"""

from __future__ import annotations

from typing import Annotated

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_dag
from fastapi import Depends

# What the page shows was said in XComs; who may read those of some DAG may see the page, of those DAGs.
MAY_SEE_THE_PAGE = Depends(requires_access_dag("GET", DagAccessEntity.XCOM))


def _readable_dags(user: GetUserDep) -> set[str]:
    return get_auth_manager().get_authorized_dag_ids(user=user, method="GET")


# The ids of the DAGs that the user of a request may read.
ReadableDags = Annotated[set[str], Depends(_readable_dags)]

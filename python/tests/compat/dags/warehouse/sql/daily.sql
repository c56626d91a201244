{% include "columns.sql" %}
FROM orders WHERE day = '{{ ds }}' AND region IN ({{ params.regions | map("tojson") | join(", ") }})

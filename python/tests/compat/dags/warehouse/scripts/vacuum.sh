for table in ${TABLES//,/ }; do
  echo "vacuum $table for {{ ds }}"
done

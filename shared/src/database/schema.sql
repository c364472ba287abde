-- What the schema people consists of, one line each; the driver's own table apart. Every line begins with a kind and a
-- name. To be run with nothing but pg_catalog in the search path, so that every other name is qualified.
SELECT format('%s %s%s', CASE c.relkind WHEN 'v' THEN 'view' ELSE 'table' END, c.relname,
              CASE c.relpersistence WHEN 'p' THEN '' ELSE ' not permanent' END) AS "line!"
FROM pg_class c
WHERE c.relnamespace = to_regnamespace('people') AND c.relkind IN ('r', 'v') AND c.relname <> '_sqlx_migrations'
UNION ALL
SELECT format('column %s.%s %s%s%s%s%s', c.relname, a.attname, format_type(a.atttypid, a.atttypmod),
              CASE WHEN a.attcollation = t.typcollation THEN '' ELSE ' collate ' || a.attcollation::regcollation END,
              CASE WHEN a.attnotnull THEN ' not null' ELSE '' END,
              CASE WHEN a.attgenerated = '' AND a.attidentity = '' THEN '' ELSE ' generated' END,
              ' default ' || pg_get_expr(d.adbin, d.adrelid))
FROM pg_class c
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE c.relnamespace = to_regnamespace('people') AND c.relkind IN ('r', 'v') AND c.relname <> '_sqlx_migrations'
UNION ALL
-- PostgreSQL 18 also counts "not null" among the constraints.
SELECT format('constraint %s.%s %s%s', c.relname, k.conname, pg_get_constraintdef(k.oid),
              CASE WHEN k.convalidated THEN '' ELSE ' not validated' END)
FROM pg_constraint k
JOIN pg_class c ON c.oid = k.conrelid
WHERE c.relnamespace = to_regnamespace('people') AND c.relname <> '_sqlx_migrations' AND k.contype <> 'n'
UNION ALL
SELECT format('index %s %s%s', i.relname, pg_get_indexdef(i.oid), CASE WHEN x.indisvalid THEN '' ELSE ' not valid' END)
FROM pg_index x
JOIN pg_class i ON i.oid = x.indexrelid
JOIN pg_class c ON c.oid = x.indrelid
WHERE c.relnamespace = to_regnamespace('people') AND c.relname <> '_sqlx_migrations'
UNION ALL
SELECT format('function %s (%s) returns %s language %s%s%s%s', p.proname, pg_get_function_identity_arguments(p.oid),
              pg_get_function_result(p.oid), l.lanname, ' set ' || array_to_string(p.proconfig, ', '),
              CASE WHEN p.prosecdef THEN ' as its owner' ELSE '' END,
              CASE WHEN EXISTS (
                       SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) WHERE grantee = 0
                   ) THEN ' executable by everybody' ELSE '' END)
FROM pg_proc p
JOIN pg_language l ON l.oid = p.prolang
WHERE p.pronamespace = to_regnamespace('people')

-- A unit of work for the sqlite3 shell: rows are made, indexed, joined, grouped and dropped.
DROP TABLE IF EXISTS sales;
CREATE TABLE sales(id INTEGER PRIMARY KEY, customer TEXT, amount INTEGER);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
INSERT INTO sales SELECT i, 'customer ' || (i * 7919 % 200), i * 104729 % 10007 FROM n;
CREATE INDEX by_customer ON sales(customer);
CREATE TEMP TABLE totals AS
    SELECT customer, group_concat(amount, ',') AS amounts, sum(amount) AS total
    FROM sales GROUP BY customer;
UPDATE sales SET customer = upper(customer) WHERE id % 3 = 0;
CREATE TEMP TABLE best AS
    SELECT s.id, t.total, replace(t.amounts, ',', '; ') AS text
    FROM sales s JOIN totals t USING (customer) ORDER BY t.total DESC, s.id LIMIT 100;
DROP TABLE best;
DROP TABLE totals;

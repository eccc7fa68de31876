-- One row per customer, each made from that customer's row alone: scoring runs the same query.
SELECT
    customer_id,
    female,
    senior_citizen,
    partner,
    dependents,
    tenure,
    -- Nothing has been billed in the first month.
    COALESCE(total_charges, 0.0) AS total_charges,
    monthly_charges,
    COALESCE(total_charges, 0.0) / GREATEST(tenure, 1) AS charges_per_month,
    contract,
    payment_method,
    paperless_billing,
    phone_service,
    multiple_lines,
    internet_service,
    online_security,
    tech_support,
    CASE WHEN online_security = 'Yes' THEN 1 ELSE 0 END
        + CASE WHEN online_backup = 'Yes' THEN 1 ELSE 0 END
        + CASE WHEN device_protection = 'Yes' THEN 1 ELSE 0 END
        + CASE WHEN tech_support = 'Yes' THEN 1 ELSE 0 END
        + CASE WHEN streaming_tv = 'Yes' THEN 1 ELSE 0 END
        + CASE WHEN streaming_movies = 'Yes' THEN 1 ELSE 0 END AS services,
    CASE WHEN streaming_tv = 'Yes' OR streaming_movies = 'Yes' THEN 1 ELSE 0 END AS streams,
    churn
FROM landed

-- Duplicates dropped, ages from 18 to 100, no income is 0, two groupings. The four numbers are scaled by
-- the model itself, which learns the scale from its training rows only.
SELECT DISTINCT
    CustomerId,
    Age,
    COALESCE(Income, 0) AS Income,
    CreditScore,
    AccountBalance,
    CASE
        WHEN COALESCE(Income, 0) < 30000 THEN 'Low'
        WHEN COALESCE(Income, 0) < 80000 THEN 'Medium'
        ELSE 'High'
    END AS IncomeCategory,
    CASE
        WHEN Age < 30 THEN 'Young'
        WHEN Age < 50 THEN 'Middle'
        ELSE 'Senior'
    END AS AgeGroup,
    target
FROM landed
WHERE Age BETWEEN 18 AND 100

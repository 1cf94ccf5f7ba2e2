"""How many channels of each group stay: budgets, scores, prices and the knapsack."""

"""The arithmetic of costs.py: python3 tests/benches/test_costs.py"""

import pathlib
import tomllib
import unittest

import costs

DATA = tomllib.loads(pathlib.Path(__file__).with_name("prices.toml").read_text())
MONTH = {"requests": 1_000_000, "cold_share": 0, "database": "db.t4g.small", "storage_gb": 20, "database_zones": 1}


class Costs(unittest.TestCase):
    def test_each_part_of_an_amount_has_the_price_of_its_step(self):
        steps = [[10, 0], [100, 2], [float("inf"), 1]]
        self.assertEqual([costs.in_steps(amount, steps) for amount in (0, 10, 11, 100, 150)], [0, 0, 2, 180, 230])

    def test_functions_are_priced_by_requests_and_by_memory_times_time(self):
        rows = costs.service(MONTH, DATA | {"template": {"alarms": 10, "metrics": 2, "secrets": 3}})
        # 9 % take 25 ms at 1769 MB, the others 3 ms at 256 MB.
        gb_seconds = 90_000 * 0.025 * 1769 / 1024 + 910_000 * 0.003 * 256 / 1024
        self.assertAlmostEqual(rows["functions, time"], gb_seconds * 0.0000166667)
        self.assertAlmostEqual(rows["gateway"], 1.0)
        self.assertAlmostEqual(rows["alarms (priced as 10), 2 metrics"], 1.6)
        self.assertAlmostEqual(rows["3 secrets, and reading them"], 1.2)

    def test_containers_are_at_least_two_and_otherwise_as_many_as_the_load_needs(self):
        # 9 % take 0.2 s, the others 0.01 s: 27.1 ms on average, half of each container of half a processor.
        for requests, expected in ((1_000_000, 2), (100_000_000, 5), (1_000_000_000, 42)):
            _, tasks = costs.container(MONTH | {"requests": requests}, DATA, [0.2, 0.01])
            self.assertEqual(tasks, expected, requests)


if __name__ == "__main__":
    unittest.main()

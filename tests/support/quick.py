"""Settings of the policy for tests that ask what a host sees, not how well it is served."""

from metahpo.settings import PolicySettings, PortfolioSettings

# Most of a first suggestion's time goes into the portfolio's trees.
QUICK = PolicySettings(portfolio=PortfolioSettings(trees=20))
